"""Questions to a judge about a pair of videos: which frames of which segment, in which order, in which words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.dense.rows import PairRow
from datamodules.dense.segments import Granularity, segment_frames
from lightning_modules.judges.base import PICTURE, JudgeQuestion, Side, Workload

#: What the judge has to look for. The paper (DenseDPO, appendix A.6) asks for the same; these words are ours.
INSTRUCTIONS = """You have seen two short videos of the same scene with almost the same motion. Both were generated, \
and one may be more broken than the other. Say which of them shows fewer generation faults:
- things, faces or hands that are smeared, melted, bent or out of shape;
- arms, legs or fingers that are missing, superfluous or wrongly attached;
- something that jumps, flickers, appears or disappears from one frame to the next;
- bodies that pass through each other, or motion that nothing could make.
Style, colours, framing and how much moves do not matter. Decide for a video only where the difference is plain to \
see. Where both are about equally good or equally broken, or where you are in doubt, it is a tie.

First give the reason in one sentence. Then end your answer with one line of JSON:
{"reason": "<the reason in a few words>", "verdict": "<first, second or tie>"}"""

#: Added when a reply could not be read.
REMINDER = '\n\nYour last answer could not be read. End with exactly one line: {"verdict": "first"}, or second, or tie.'

_ORDERS: tuple[tuple[Side, Side], ...] = (("first", "second"), ("second", "first"))


@dataclass(frozen=True, slots=True)
class SegmentQuestions:
    """Maker of the questions about a pair.

    Attributes:
        granularity: one question a segment, or one about the whole video.
        segment_seconds: length of a segment; the paper's 1 s.
        frames_per_second: frames shown of each second; the paper's 8. A video with fewer is shown in full.
        frame_side: the longest side in pixels at which frames are shown; larger ones are scaled down. None = as stored.
        instructions: what the judge has to look for, and how to answer.
    """

    granularity: Granularity = "segments"
    segment_seconds: float = 1.0
    frames_per_second: float = 8.0
    frame_side: int | None = None
    instructions: str = INSTRUCTIONS

    def settings(self) -> dict[str, Any]:
        """All that decides the questions, in plain JSON types."""
        return {
            # The name and the values that labels of version 0.1.0 carry.
            "segments": "each" if self.granularity == "segments" else "whole",
            "segment_seconds": self.segment_seconds,
            "frames_per_second": self.frames_per_second,
            "frame_side": self.frame_side,
            "instructions": self.instructions,
        }

    def frames_per_segment(self, row: PairRow) -> int:
        """Frames in a segment of this pair; for the whole video at once all of them."""
        if self.granularity == "whole":
            return max(row.video.frames, row.latent_space.temporal_ratio)
        return round(self.segment_seconds * row.video.fps)

    def spans(self, row: PairRow) -> list[range]:
        """The frames of each segment.

        Raises:
            ValueError: segments are shorter than a latent frame; names the pair.
        """
        try:
            return segment_frames(row.video.frames, self.frames_per_segment(row), row.latent_space.temporal_ratio)
        except ValueError as error:
            raise ValueError(
                f"pair {row.key!r}, {self.segment_seconds:g} s at {row.video.fps:g} fps: {error}"
            ) from error

    def shown(self, row: PairRow, span: range) -> list[int]:
        """The frames of a segment that are shown: those at equal times, from its first one on."""
        rate = min(self.frames_per_second, row.video.fps)
        # The tolerance is for rates like 23.976, where a frame must not be missed by a rounding error.
        count = int((len(span) - 1) * rate / row.video.fps + 1e-6) + 1
        return [span.start + int(index * row.video.fps / rate + 1e-6) for index in range(count)]

    def questions(self, row: PairRow, first: Tensor, second: Tensor) -> list[JudgeQuestion]:
        """Two questions a segment, the pair's first video shown first and then its second video.

        Args:
            row: the pair.
            first: (T, 3, H, W) uint8.
            second: likewise.
        """
        videos: dict[Side, Tensor] = {"first": first, "second": second}
        questions = []
        for index, span in enumerate(self.spans(row)):
            frames = self.shown(row, span)
            pictures = {side: [self._sized(frame) for frame in video[frames]] for side, video in videos.items()}
            for order in _ORDERS:
                images = [picture for side in order for picture in pictures[side]]
                segment = None if self.granularity == "whole" else index
                text = self._text(row, len(frames))
                questions.append(JudgeQuestion(text, images, row.key, segment, span, order[0]))
        return questions

    def work(self, rows: Iterable[PairRow]) -> Workload:
        """What asking about these pairs amounts to."""
        questions = images = characters = 0
        size = (0, 0)
        for row in rows:
            counts = [len(self.shown(row, span)) for span in self.spans(row)]
            questions += 2 * len(counts)
            images += 4 * sum(counts)
            characters += 2 * sum(len(self._text(row, count).replace(PICTURE, "")) for count in counts)
            # The widest pair's size for all of them: an estimate had better be too high.
            size = max(size, self._size(row.video.width, row.video.height))
        return Workload(questions, images, characters, size if images else None)

    def _text(self, row: PairRow, count: int) -> str:
        rate = min(self.frames_per_second, row.video.fps)
        videos = [
            f"The {side} video, {count} frames in order, {rate:g} a second:\n{PICTURE * count}\n"
            for side in ("first", "second")
        ]
        return "".join(videos) + self.instructions

    def _size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height at which a frame is shown."""
        scale = 1.0 if self.frame_side is None else min(1.0, self.frame_side / max(width, height))
        return max(round(width * scale), 1), max(round(height * scale), 1)

    def _sized(self, frame: Tensor) -> Tensor:
        """(3, H, W) uint8 of the size at which it is shown."""
        import cv2

        height, width = frame.shape[-2:]
        size = self._size(width, height)
        if size == (width, height):
            return frame
        # INTER_AREA averages: faults that a judge looks for must not come from aliasing.
        pixels = np.ascontiguousarray(frame.cpu().numpy().transpose(1, 2, 0))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        return torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))


def frames_per_segment(questions: SegmentQuestions, rows: Sequence[PairRow]) -> int | None:
    """Frames in a segment where all pairs agree on it; None where they differ."""
    lengths = {questions.frames_per_segment(row) for row in rows}
    return lengths.pop() if len(lengths) == 1 else None
