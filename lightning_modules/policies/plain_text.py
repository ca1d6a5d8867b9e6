"""Texts of users as plain text: what they hold of ``</s>`` or ``<image>`` never becomes a control token."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

#: A token that was added without being called special is a control token where it looks like a marker; a word or a run
#: of spaces that was added to the vocabulary is text.
_MARKER = re.compile(r"[<\[({|].*[>\])}|]", re.DOTALL)

#: Templates whose control ids are kept.
_TEMPLATES = 256

#: Private-use characters, the first of as many as there are added tokens.
_FIRST_STAND_IN = 0xF0000


def stand_in(place: int) -> str:
    """The other name of the added token at this place."""
    return chr(_FIRST_STAND_IN + place)


class PlainText:
    """Tokenises texts within parts of a template, whose own special tokens keep their meaning.

    A text without control tokens has exactly the ids that the tokenizer gives to the whole. For one with control
    tokens, a copy of the tokenizer knows the special tokens by other names, which only the template is put into, so
    that the text is split and merged like any other.

    Args:
        tokenizer: a transformers tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        markers = {
            index: str(token) for index, token in added.items() if token.special or _MARKER.fullmatch(str(token))
        }
        special = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
        #: Control token -> id.
        self.control: dict[str, int] = {name: index for index, name in [*markers.items(), *special]}
        # Characters that the vocabulary lacks have this id too.
        self._control_ids = set(self.control.values()) - {tokenizer.unk_token_id}
        self._templates: dict[tuple[str, ...], list[int]] = {}

    def ids(self, before: str, text: str, after: str, where: str) -> list[int]:
        """The ids of a text between two parts of a template, see `interleaved`."""
        return self.interleaved((before, after), (text,), where)

    def interleaved(self, template: Sequence[str], texts: Sequence[str], where: str) -> list[int]:
        """The ids of template, text, template, text ... template as one, without what the tokenizer puts around it.

        Args:
            template: n + 1 parts, whose special tokens become control ids.
            texts: n texts of users; nothing in them does.
            where: what to call them in an error.

        Raises:
            ValueError: this tokenizer cannot but read a control token in a text.
        """
        *parts, ending = template
        ids = self._native("".join(part for pair in zip(parts, texts, strict=True) for part in pair) + ending)
        expected, unknown = self._expected(tuple(template)), self.tokenizer.unk_token
        # The unknown token's own name in a text would have the id of a character that the vocabulary lacks.
        if self._controls(ids) == expected and not (unknown and unknown in "\n".join(texts)):
            return ids
        if self._renamed is not None:
            ids = self._renamed_ids(template, texts)
        if self._renamed is None or self._controls(ids) != expected:
            names = [*self.control, *filter(None, [unknown])]
            text = next((text for text in texts if any(name in text for name in names)), texts[0])
            held = ", ".join(repr(name) for name in self.control if name in text)
            raise ValueError(
                f"{where}: {text!r} holds {held}, which this tokenizer takes for a control token; take it out"
            )
        return ids

    def _native(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _expected(self, template: tuple[str, ...]) -> list[int]:
        """The control ids of a template, which is tokenised once as long as it is among the last ones."""
        if template not in self._templates:
            if len(self._templates) >= _TEMPLATES:  # where they hold a video's times they are many
                self._templates.clear()
            self._templates[template] = self._controls(self._native("".join(template)))
        return self._templates[template]

    def _controls(self, ids: list[int]) -> list[int]:
        return [index for index in ids if index in self._control_ids]

    def content(self) -> dict[str, Any]:
        """What the tokenizer is made of, as `tokenizers` stores it."""
        content: dict[str, Any] = json.loads(self.tokenizer.backend_tokenizer.to_str())
        return content

    @cached_property
    def _renamed(self) -> tuple[Any, dict[int, int], dict[str, str]] | None:
        """A tokenizer with other names for control tokens, its ids of added tokens -> ours, and name -> other name.

        None where the tokenizer is no fast one.
        """
        if not self.tokenizer.is_fast:
            return None
        from tokenizers import AddedToken, Tokenizer

        content = self.content()
        bare: dict[str, Any] = {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        renamed = Tokenizer.from_str(json.dumps({**content, **bare}))
        indexes: dict[int, int] = {}
        names: dict[str, str] = {}
        for place, token in enumerate(content["added_tokens"]):
            index, name = token.pop("id"), token.pop("content")
            other = name
            if name in self.control:
                other = names[name] = stand_in(place)
            renamed.add_tokens([AddedToken(other, **token)])
            renamed_index = renamed.token_to_id(other)
            assert renamed_index is not None, "it was added just now"
            indexes[renamed_index] = index
        return renamed, indexes, names

    def _renamed_ids(self, template: Sequence[str], texts: Sequence[str]) -> list[int]:
        assert self._renamed is not None
        renamed, indexes, names = self._renamed
        # Longest first, as one name may begin another.
        pattern = re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or r"(?!)")
        *parts, ending = (pattern.sub(lambda match: names[match[0]], part) for part in template)
        whole = "".join(part for pair in zip(parts, texts, strict=True) for part in pair) + ending
        ids = renamed.encode(whole, add_special_tokens=False).ids
        return [indexes.get(index, index) for index in ids]
