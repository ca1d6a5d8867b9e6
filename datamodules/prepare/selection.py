"""Selection of clips by filters, with a record of why the others are rejected."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from datamodules.prepare.video_filters import Candidate, Finding, Looks, VideoFilter
from datamodules.shards.files import write_whole


@dataclass(frozen=True, slots=True)
class Reason:
    """Rejection of a clip: which filter, and why."""

    filter: str
    why: str


@dataclass(slots=True)
class Trial:
    """One clip, or a whole video that was rejected before it was decoded: a line of the report.

    Attributes:
        key: the clip's key; the video's, where no clip was cut.
        video: its file.
        start: where in the video the clip begins, in seconds; None for a whole video.
        scores: what was measured, by name; `kept_area`, the share of the picture that the crop keeps, of all.
        reasons: why it does not stay; empty = it does.
    """

    key: str
    video: str
    start: float | None
    scores: dict[str, float] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)


class VideoSelection:
    """Selection of clips: applies filters and keeps the trials, in order.

    Args:
        filters: the criteria; all that look at the same are applied, even after one of them rejected.
    """

    def __init__(self, filters: Sequence[VideoFilter]) -> None:
        self.filters = list(filters)
        self.trials: list[Trial] = []

    def judge(self, trial: Trial, clip: Candidate, looks_at: Looks) -> bool:
        """Apply the filters that look at one thing; what they find is added to the trial. True = it may stay."""
        # Also after a rejection: a report that has every reason shows which threshold costs how many clips.
        for criterion in self.filters:
            if criterion.looks_at == looks_at:
                finding: Finding = criterion.judge(clip)
                trial.scores |= {name: round(value, 6) for name, value in finding.scores.items()}
                if finding.why:
                    trial.reasons.append(Reason(type(criterion).__name__, finding.why))
        return not trial.reasons

    def write(self, path: Path) -> None:
        """One JSON line for each trial: key, video, start, kept, scores, reasons."""
        lines = [{**asdict(trial), "kept": not trial.reasons} for trial in self.trials]
        # The folder may not be there yet: a run that rejects every clip writes no shard.
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def show(self, report: Path) -> None:
        """Print the table, and where the report is."""
        from rich.console import Console

        console = Console()
        console.print(self.table())
        console.print(f"every clip's numbers and the reasons: {report}", highlight=False, soft_wrap=True)

    def table(self) -> Any:
        """A `rich` table: what was measured, its range, and how many clips each filter rejected."""
        from rich.table import Table

        kept = sum(not trial.reasons for trial in self.trials)
        table = Table(title=f"{kept} of {len(self.trials)} clips are kept", title_justify="left")
        table.add_column("measured")
        for name in ("clips", "least", "median", "most"):
            table.add_column(name, justify="right")
        for name in dict.fromkeys(name for trial in self.trials for name in trial.scores):
            values = [trial.scores[name] for trial in self.trials if name in trial.scores]
            numbers = (f"{value:.4g}" for value in (min(values), median(values), max(values)))
            table.add_row(name, str(len(values)), *numbers)
        table.add_section()
        for criterion in self.filters:
            name = type(criterion).__name__
            count = sum(any(reason.filter == name for reason in trial.reasons) for trial in self.trials)
            table.add_row(f"rejected by {name}", str(count))
        return table
