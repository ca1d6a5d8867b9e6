"""The objects that an English text names, by rule: "Which way does the red circle move?" names a "red circle".

No grammar is parsed. A phrase begins behind a word that announces a noun (the, a, his, two ...) and ends before a word
that cannot belong to one. This misses nouns without such a word before them ("Where is John?"), and takes a word for a
noun that is not in its lists of verbs; a row may name its object itself, in its field `object`.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Words that announce a noun.
_ANNOUNCE = _words("""
    a an the this these those his her its their my your our some any another each every both no many several
    two three four five six seven eight nine ten
""")
#: Words that no phrase holds.
_ENDS = _words("""
    i you he she it we they that him them who whom whose which what when where why how there here
    is are was were be been being am do does did done has have had having can could will would shall should may might
    must not and or but nor so if than then as while because until since once
    of in on at by for with from to into onto over under behind beside near through across along around between among
    before after during against toward towards off out up down inside outside above below without within about
    first last again away together also too very more most only ever still just already later earlier now
    left right forward forwards backward backwards upward upwards downward downwards
""")
#: Verbs in their plain form, whose other forms follow, and forms that do not.
_VERBS = _words("""
    move go come turn walk run jump fly fall roll swim climb cross enter leave stop start begin end finish appear
    disappear stand sit lie lean kneel bend open close push pull carry hold grab pick put place drop throw catch kick
    hit cut pour stir mix cook eat drink wash clean wipe wear look watch see show play sing dance ride drive speak talk
    say smile laugh cry wave point touch hug kiss fight chase follow take give bring get make use do happen change
    become stay wait rise spin rotate swing bounce slide shake lift raise lower hang fold tie read write draw paint try
    keep contain seem remain travel approach pass
""")
_IRREGULAR = _words("""
    went gone came ran flew flown fell fallen swam began begun left stood sat lay held got threw thrown caught
    ate eaten drank wore worn saw seen sang rode drove driven spoke said took taken gave given brought made became kept
    rose risen spun swung slid shook hung wrote drew
""")
#: Nouns that name no object to look for.
_NO_OBJECT = _words("""
    video videos clip clips footage scene scenes frame frames image images picture screen camera beginning end start
    middle time moment way direction order color colour number kind type shape side top bottom left right center
    centre following answer question sequence action event events background foreground
""")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*|\d+|[^\sA-Za-z\d]")


def _forms(verb: str) -> set[str]:
    stem = verb.removesuffix("e")
    doubled = f"{verb}{verb[-1]}"
    y = {f"{verb[:-1]}ies", f"{verb[:-1]}ied"} if verb.endswith("y") else set()
    return {verb, f"{verb}s", f"{verb}es", f"{stem}ed", f"{stem}ing", f"{doubled}ed", f"{doubled}ing"} | y


VERB_FORMS = frozenset(form for verb in _VERBS for form in _forms(verb)) | _IRREGULAR


def object_phrases(text: str) -> list[str]:
    """The objects that a text names, in order and each once, in small letters and without articles; [] = none."""
    phrases: list[str] = []
    words: list[str] = []
    announced = False
    for word in [*_WORD.findall(text), "."]:
        lower = word.lower()
        # A verb's form behind the announcing word is a noun or an adjective: "the rolling ball", "the play".
        ends = not lower[0].isalpha() or lower in _ENDS or lower in _ANNOUNCE or (bool(words) and lower in VERB_FORMS)
        if announced and not ends:
            words.append(lower)
            continue
        if words and words[-1] not in _NO_OBJECT and words != ["one"]:
            phrases.append(" ".join(words))
        words, announced = [], lower in _ANNOUNCE
    return list(dict.fromkeys(phrases))
