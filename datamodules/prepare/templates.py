"""Leftovers of a chat template around a text: a policy's own template would come on top of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datamodules.prepare.rows import SourceRow

#: Places of pictures and videos, as other suites write them into a question.
_MEDIA = r"<\|?(?:image|video)(?:_pad|_placeholder)?\|?>|<\|vision_(?:start|end)\|>"
_TURN = (
    r"<\|im_start\|>\s*(?:system|user|assistant)\b|<\|start_header_id\|>\s*\w+\s*<\|end_header_id\|>"
    r"|<start_of_turn>\s*(?:user|model)\b|\[INST\]|<s>|<bos>|<\|begin_of_text\|>"
)
_END = r"</s>|<eos>|<\|im_end\|>|<\|eot_id\|>|<\|endoftext\|>|<\|end_of_text\|>|<end_of_turn>|\[/INST\]"
_ROLE = r"(?:###[ \t]*)?(?:user|human|assistant|gpt)[ \t]*:"

_AT_START = re.compile(rf"\A\s*(?:{_MEDIA}|{_TURN}|(?i:{_ROLE}))")
# A role ends a prompt where it is spelled as templates spell it; "Who is the assistant:" is a question.
_AT_END = re.compile(
    rf"(?:{_MEDIA}|{_TURN}|{_END}|(?<!\S)(?:###[ \t]*)?(?:USER|HUMAN|ASSISTANT|GPT)[ \t]*:|^(?i:{_ROLE}))\s*\Z",
    re.MULTILINE,
)


def without_template(text: str) -> str:
    """The text without tokens for media, turns and ends and without names of roles at its start and its end.

    Returns:
        The text itself where it has none of them.
    """
    stripped = text
    # Until nothing changes: templates nest, as in "<s>[INST] <image>".
    while True:
        shorter = _AT_END.sub("", _AT_START.sub("", stripped, count=1), count=1)
        if shorter == stripped:
            # A text without a template is returned with its white space, as callers compare the two.
            return text if stripped == text else stripped.strip()
        stripped = shorter


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a row, and what becomes of a chat template around one of them.

    Attributes:
        fields: the fields that hold questions and answers.
        strip_templates: remove the template; else it stays, as text, and is warned of.
        own_token: a token that the format itself puts into texts; it is no template.
    """

    fields: tuple[str, ...] = ()
    strip_templates: bool = False
    own_token: str = ""

    def templated(self, row: SourceRow) -> dict[str, str]:
        """The fields that have a template around their text, with what is left without it."""
        templated = {}
        for name in self.fields:
            text = row.data.get(name)
            if not isinstance(text, str):
                continue
            text = text.replace(self.own_token, "").strip() if self.own_token else text
            if (stripped := without_template(text)) != text:
                templated[name] = stripped
        return templated

    def clean(self, path: Path, rows: Sequence[SourceRow]) -> None:
        """Note the cleaned texts, where asked to, and say how many there are, with three examples."""
        templated = [(row, self.templated(row)) for row in rows]
        places = [f"{row}, {name}: {row.data[name][:60]!r}" for row, texts in templated for name in texts]
        if not places:
            return
        advice = "it stays as plain text, and the policy adds a template of its own; --strip_templates removes it"
        if self.strip_templates:
            advice = "it is removed"
            for row, texts in templated:
                row.stripped = texts
        count = "1 text has" if len(places) == 1 else f"{len(places)} texts have"
        examples = "; ".join(places[:3])
        sys.stderr.write(f"warning: {path}: {count} what looks like a chat template around it: {advice} ({examples})\n")
