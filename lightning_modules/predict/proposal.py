"""What is proposed for one row, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from datamodules.annotation.answered_videos import OBJECT
from datamodules.stream.predict_outputs import WrittenRow
from lightning_modules.annotators.base import Detection

Part = Literal["boxes", "event", "rejected"]
BELOW = "below the threshold"


class Proposal:
    """Proposed annotation of a row.

    Args:
        content: the row's fields, of which those that it has are not proposed.
        thresholds: part -> the least confidence with which it is kept.

    Attributes:
        outcomes: part -> what became of it.
    """

    def __init__(self, content: Mapping[str, Any], thresholds: Mapping[str, float]) -> None:
        self.content = {name: value for name, value in content.items() if name != OBJECT}
        self.thresholds = thresholds
        self.facts: dict[str, Any] = dict(content.get("facts", {}))
        self.outcomes: dict[str, str] = {}

    @property
    def event(self) -> tuple[float, float] | None:
        """The span, seconds, given or kept; None = there is none."""
        event = self.content.get("event")
        return None if event is None else (float(event[0]), float(event[1]))

    def has(self, part: Part) -> bool:
        """Whether the row came with this part."""
        if self.content.get(part):
            self.outcomes[part] = "given"
        return part in self.outcomes

    def decide(self, part: Part, outcome: str) -> None:
        """Note why there is no such part."""
        self.outcomes[part] = outcome

    def keep(self, part: Part, value: Any, confidence: float | None, kind: str = "") -> None:
        """Keep a part whose confidence reaches the threshold, or is not known; note it in either case."""
        kept = confidence is None or confidence >= self.thresholds[part]
        self.outcomes[part] = f"kept ({kind})" if kept and kind else "kept" if kept else BELOW
        if not kept:
            return
        self.content[part] = value
        if confidence is not None:
            self.facts[f"{part}_confidence"] = round(confidence, 4)
        if kind:
            self.facts[f"{part}_by"] = kind

    def keep_boxes(self, phrase: str, boxes: Sequence[tuple[float, Detection | None]]) -> bool:
        """Keep the boxes of an object, (seconds, box), that reach the threshold; whether there is one."""
        found = [(time, box) for time, box in boxes if box is not None]
        kept = [(time, box) for time, box in found if box.confidence >= self.thresholds["boxes"]]
        # Of several objects that are not kept, one that was seen at all says more than one that was not.
        if not kept:
            self.outcomes["boxes"] = BELOW if found or self.outcomes.get("boxes") == BELOW else "object not found"
            return False
        self.outcomes["boxes"] = "kept"
        self.content["boxes"] = [
            {
                "time": round(time, 4),
                **{name: round(getattr(box, name), 2) for name in ("x", "y", "width", "height")},
            }
            for time, box in kept
        ]
        self.facts |= {"object": phrase, "boxes_confidence": [round(box.confidence, 4) for _, box in kept]}
        return True

    def written(self, key: str) -> WrittenRow:
        """The row, or why it is left out."""
        if not self.content.get("rejected"):
            return WrittenRow(key, None, self.outcomes, f"no wrong answer: {self.outcomes['rejected']}")
        return WrittenRow(key, {**self.content, **({"facts": self.facts} if self.facts else {})}, self.outcomes)
