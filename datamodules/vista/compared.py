"""Which answers the terms of a loss compare, and the rows of a batch's scores that these are.

Worked out when a batch is made: on the CPU, where counting waits for no device. So a step selects rewards by finished
indexes, whose sizes the host knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from datamodules.vista.samples import AnswerName, ViewName

#: An answer under a view.
Side = tuple[ViewName, AnswerName]

#: The terms that contrast the chosen answer under a view with the same answer under the view's negative.
CONTRASTS: dict[str, tuple[ViewName, ViewName]] = {
    "video": ("original", "video_negative"),
    "clip": ("clip", "clip_negative"),
    "object": ("object", "object_negative"),
}

#: Term -> what it compares: the preferred side, the other one, and one that may be missing.
COMPARED: dict[str, tuple[Side, ...]] = {
    "supervised": (("original", "chosen"),),
    "response": (("original", "chosen"), ("original", "rejected"), ("original", "irrelevant")),
    "token": (("original", "chosen"), ("original", "rejected")),
    **{term: ((view, "chosen"), (negative, "chosen")) for term, (view, negative) in CONTRASTS.items()},
}


@dataclass(slots=True)
class ComparedRows:
    """Where the rows of each term's sides are in a batch's index.

    Attributes:
        samples: term -> the positions in the batch of the samples that take part, ascending: those with its first two
            sides.
        starts: term -> where its rows begin.
    """

    samples: dict[str, list[int]] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Mapping[Side, Mapping[int, int]]) -> tuple[ComparedRows, Tensor]:
        """The places, and the index: (K,) int64, the rows of all sides of all terms behind one another, on the CPU.

        Args:
            rows: (view, answer) -> sample position -> row of `AnswerScores`, of the samples that count.
        """
        compared, index = cls(), list[int]()
        for term, sides in COMPARED.items():
            of_sides = [rows.get(side, {}) for side in sides]
            samples = sorted(set.intersection(*map(set, of_sides[:2])))
            compared.samples[term], compared.starts[term] = samples, len(index)
            for number, of_side in enumerate(of_sides):
                # A third side that a sample lacks is stood in for by its second, which must weigh nothing there.
                known = {**of_sides[1], **of_side} if number == 2 else of_side
                index += [known[sample] for sample in samples]
        return compared, torch.tensor(index, dtype=torch.int64)

    def select(self, index: Tensor, term: str) -> Tensor:
        """A term's rows, (sides, n).

        Args:
            index: of the batch, on whichever device.
            term: its name.
        """
        sides, count = len(COMPARED[term]), len(self.samples[term])
        return index.narrow(0, self.starts[term], sides * count).view(sides, count)
