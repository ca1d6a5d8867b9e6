"""Caches that version 0.1.0 wrote: the same scores under other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from datamodules.shards.index import Index


def in_current_words(index: Index) -> Index:
    """An index of cached reference scores whose answers and negatives have the names that they have now."""
    made_from = settings_in_current_words(index.made_from)
    if made_from == index.made_from:
        return index
    entries = []
    for entry in index.entries:
        answers = {_answer(name): score for name, score in entry.facts["answers"].items()}
        entries.append(replace(entry, facts={**entry.facts, "answers": answers}))
    return replace(index, entries=tuple(entries), made_from=made_from)


def settings_in_current_words(made_from: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a cache was made from, likewise.

    An answer was called "relevant", and negatives were named with their module.
    """
    settings = dict(made_from)
    for name in ("answers", "hidden"):
        if name in settings:
            settings[name] = sorted(_answer(answer) for answer in settings[name])
    if "negatives" in settings:
        settings["negatives"] = {
            level: {**negative, "class": str(negative["class"]).rpartition(".")[2]}
            for level, negative in settings["negatives"].items()
        }
    return settings


def _answer(name: str) -> str:
    view, _, answer = name.partition("/")
    return f"{view}/rejected" if answer == "relevant" else name
