"""The columns of a table of compared videos that the user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from datamodules.prepare.pair_layouts import PairLayout
from datamodules.prepare.pair_verdicts import WORDS, given_words, number_words
from datamodules.prepare.rows import SourceRow


@dataclass(frozen=True, slots=True)
class NamedColumns:
    """Columns that come in the place of a layout's; None = the layout's own.

    Attributes:
        first: of the first video.
        second: of the second video.
        prompt: of the prompt.
        label: of the label.
        scores: with a score of each video, in place of a label.
        labels: what the values of the label's column mean.
    """

    first: str | None = None
    second: str | None = None
    prompt: str | None = None
    label: str | None = None
    scores: tuple[str, str] | None = None
    labels: Mapping[str, str] | None = None

    def in_place_of(self, layout: PairLayout, rows: Sequence[SourceRow]) -> PairLayout:
        """The layout with these columns, whose labels may be spelt in any known way.

        Raises:
            ValueError: the label's column holds numbers that mean nothing without `labels`.
        """
        given = {"first": self.first, "second": self.second, "prompt": self.prompt}
        layout = replace(layout, **{name: column for name, column in given.items() if column})  # type: ignore[arg-type]
        if self.labels:
            layout = replace(layout, words={**layout.words, **given_words(self.labels)})
        # The user named another source of verdicts, so what the layout says of them goes.
        if self.scores:
            return replace(layout, scores=self.scores, votes=None, axes={}, axis_pattern="", needs=self.scores)
        if not self.label:
            return layout
        if self.labels:
            words = {**WORDS, **given_words(self.labels)}
        else:
            try:
                words = {**WORDS, **number_words(row.data.get(self.label) for row in rows)}
            except ValueError as error:
                raise ValueError(f"--label_column {self.label}: {error}") from error
        needs = (self.label,)
        return replace(layout, axes={self.label: self.label}, words=words, votes=None, axis_pattern="", needs=needs)
