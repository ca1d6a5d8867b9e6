"""Protocols of measurement, a paper's and a run's, and why their numbers may not be comparable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: A model is as large as the paper's when it has this share of its parameters, or the inverse.
SAME_SIZE = 0.75


@dataclass(frozen=True, slots=True)
class Protocol:
    """Protocol of a measurement; None = not known.

    Attributes:
        annotations: part -> sha256 of its file of questions.
        questions: part -> how many questions its file holds.
        settings: the questions' settings that move numbers (prompt ...).
        parameters: of the model.
        judge: the judge whose verdicts a number is made of.
        left_out: how many questions were left out.
        limit: how many units of each part were asked; None = all.
        unread: how many replies could not be read.
        remarks: reasons against any comparison.
    """

    annotations: Mapping[str, str] | None = None
    questions: Mapping[str, int] | None = None
    settings: Mapping[str, Any] | None = None
    parameters: float | None = None
    judge: str | None = None
    left_out: int = 0
    limit: int | None = None
    unread: int = 0
    remarks: tuple[str, ...] = ()

    @classmethod
    def of_run(cls, about: Mapping[str, Any], settings: Mapping[str, Any], unread: int = 0) -> Protocol:
        """The protocol of one of our runs, from the "about" of its results."""
        sources = about["annotations"]
        return cls(
            annotations={part: source["sha256"] for part, source in sources.items()},
            questions={part: source["questions"] for part, source in sources.items() if "questions" in source},
            settings=settings,
            parameters=about["parameters"],
            judge=about["judge"],
            left_out=about["left_out"],
            limit=about["limit"],
            unread=unread,
            remarks=tuple(about.get("remarks", ())),
        )

    def differences(self, ours: Protocol, judged: bool) -> Iterator[str]:
        """Why numbers measured by another protocol are not comparable with this paper's.

        Args:
            ours: the protocol of a run.
            judged: whether a judge's verdicts are in the numbers.
        """
        yield from self.remarks
        known = (self.annotations, self.questions, self.settings)
        if not self.remarks and all(value is None for value in known):
            yield "how the paper asked is not known here"
        # A mean over other parts is another number, whatever the questions in them are.
        theirs, mine = self.annotations or self.questions, ours.annotations or ours.questions or {}
        if theirs is not None and set(theirs) != set(mine):
            yield f"the paper has the parts {', '.join(theirs)}, this run {', '.join(mine)}"
        yield from self._questions(ours)
        for name, value in (self.settings or {}).items():
            if (ours.settings or {}).get(name) != value:
                yield f"another {name} than the paper's"
        if ours.left_out:
            yield f"{ours.left_out} questions were left out"
        if ours.limit is not None:
            yield f"only the first {ours.limit} of each part were asked"
        if ours.unread:
            yield f"{ours.unread} replies could not be read"
        if judged:  # our remarks are about how a judge was asked
            yield from ours.remarks
        if judged and self.judge != ours.judge:
            yield f"the paper's judge is {self.judge or 'not known here'}, this run's {ours.judge or 'not known'}"
        yield from self._sizes(ours)

    def _questions(self, ours: Protocol) -> Iterator[str]:
        """Differences in the questions, by their files' hashes where the paper's are known, else by their number."""
        theirs, mine = self.annotations or {}, ours.annotations or {}
        other = [part for part in theirs if part in mine and theirs[part] != mine[part]]
        if other:
            yield f"other questions than the paper's in {', '.join(other)}"
        # Where only the number of questions is published, equal numbers are the best sign of the same version.
        counts = ours.questions or {}
        for part, count in (self.questions or {}).items():
            if counts.get(part, count) != count:
                yield f"the paper has {count} questions in {part}, this run's file {counts[part]}"

    def _sizes(self, ours: Protocol) -> Iterator[str]:
        if self.parameters is None:
            yield "the size of the paper's model is not known here"
        elif ours.parameters is None:
            yield f"the model behind these answers is not known; the paper's has {_size(self.parameters)} parameters"
        elif min(ours.parameters / self.parameters, self.parameters / max(ours.parameters, 1)) < SAME_SIZE:
            yield f"the paper's model has {_size(self.parameters)} parameters, this one {_size(ours.parameters)}"


def _size(parameters: float) -> str:
    """7.0 billion, 1.4 million."""
    for unit, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if parameters >= unit:
            return f"{parameters / unit:.1f} {name}"
    return f"{parameters:.0f}"
