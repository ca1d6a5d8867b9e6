"""Proposed annotation of toy videos against their ground truth: boxes, event spans and wrong answers.

python -m benchmarks.toy.vista.annotation write runs/toy/annotation --num_videos 200
vidpref predict --config configs/toy/annotate.yaml
vidpref prepare jsonl runs/toy/annotation/proposed.jsonl runs/toy/annotation/proposed --videos runs/toy/annotation
python -m benchmarks.toy.vista.annotation score runs/toy/annotation
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.sample_rows import sample_rows
from datamodules.toy_world.questions import SUBSETS, truth
from datamodules.toy_world.render import draw_scene, render
from datamodules.toy_world.rows import preference_row
from datamodules.video.codec import encode_mp4
from datamodules.vista.samples import Box, PreferenceRow

TITLE = "Proposed annotation of toy videos against their ground truth."
#: What `GroundingAnnotator` is given, and the same rows with everything that is true of them.
ANSWERED, TRUTH = "answered.jsonl", "truth.jsonl"


@dataclass(frozen=True, slots=True)
class AnnotationScores:
    """Scores of proposed annotation, over the rows that were written.

    Attributes:
        rows: rows that were written.
        with_boxes: share of them with boxes.
        box_iou: mean over all boxed frames of the intersection over union with the true box; 0 where there is none.
        with_event: share with an event.
        event_iou: mean intersection over union of proposed and true spans.
        event_error: mean error of a span's start and end, seconds.
        false_answers: share of the wrong answers that are false of their video.
    """

    rows: int
    with_boxes: float
    box_iou: float
    with_event: float
    event_iou: float
    event_error: float
    false_answers: float


def write(folder: Path, num_videos: int, seed: int = 0) -> None:
    """Write videos, their questions with right answers, and beside them the truth."""
    folder.mkdir(parents=True, exist_ok=True)
    answered, true = [], []
    for index in range(num_videos):
        rng = random.Random(f"annotation/{seed}/{index}")
        scene, name = draw_scene(rng), f"video-{index:04d}.mp4"
        row = preference_row(scene, name, SUBSETS[index % len(SUBSETS)], rng)
        (folder / name).write_bytes(encode_mp4(render(scene), scene.facts.fps))
        answered.append({"video": name, "question": row.question, "chosen": row.chosen})
        statements = [str(truth(scene, event)) for event in range(len(scene.events))]
        boxes = [asdict(box) for box in row.boxes]
        true.append(answered[-1] | {"event": row.event, "boxes": boxes, "facts": {"statements": statements}})
    for file, rows in ((ANSWERED, answered), (TRUTH, true)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))


def score(folder: Path, proposed: Path) -> AnnotationScores:
    """Compare the shards of proposed rows with the truth in `folder`.

    Args:
        folder: what `write` wrote.
        proposed: the index of the shards.
    """
    lines = (folder / TRUTH).read_text().splitlines()
    truths = {row["video"]: row for row in map(json.loads, lines)}
    index = Index.read(proposed, "vidpref/vista")
    rows = [PreferenceRow.from_json(row) for _, row in sample_rows(SampleReader(index), range(len(index)))]  # type: ignore[arg-type]
    box_ious: list[float] = []
    event_ious, errors, false = [], [], []
    for row in rows:
        true = truths[row.video_id]
        statement = row.rejected.partition(", ")[2].rstrip(".")
        false.append(statement not in true["facts"]["statements"])
        if row.boxes:
            by_time = {box.time: box for box in row.boxes}
            true_boxes = {box["time"]: Box(**box) for box in true["boxes"]}
            for time in sorted({*by_time, *true_boxes}, key=float):
                pair = by_time.get(time), true_boxes.get(time)
                box_ious.append(0.0 if None in pair else box_iou(*pair))  # type: ignore[arg-type]
        if row.event is not None:
            (start, end), (true_start, true_end) = row.event, true["event"]
            both = max(0.0, min(end, true_end) - max(start, true_start))
            event_ious.append(both / (end - start + true_end - true_start - both))
            errors += [abs(start - true_start), abs(end - true_end)]
    return AnnotationScores(
        rows=len(rows),
        with_boxes=sum(bool(row.boxes) for row in rows) / len(rows),
        box_iou=statistics.fmean(box_ious or [0.0]),
        with_event=len(event_ious) / len(rows),
        event_iou=statistics.fmean(event_ious or [0.0]),
        event_error=statistics.fmean(errors or [0.0]),
        false_answers=statistics.fmean(false),
    )


def box_iou(box: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(box.x + box.width, other.x + other.width) - max(box.x, other.x)
    height = min(box.y + box.height, other.y + other.height) - max(box.y, other.y)
    both = max(width, 0.0) * max(height, 0.0)
    return both / (box.width * box.height + other.width * other.height - both)


def table(scores: AnnotationScores) -> str:
    """The scores in Markdown."""
    lines = [
        ("rows written", f"{scores.rows}"),
        ("rows with boxes", f"{scores.with_boxes:.0%}"),
        ("IoU of boxes, mean over frames", f"{scores.box_iou:.3f}"),
        ("rows with an event", f"{scores.with_event:.0%}"),
        ("IoU of events, mean", f"{scores.event_iou:.3f}"),
        ("error of an event's start and end, mean", f"{scores.event_error:.3f} s"),
        ("wrong answers that are false", f"{scores.false_answers:.0%}"),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.toy.vista.annotation", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "step", choices=["write", "score"], help="write videos and questions, or score what was proposed"
    )
    parser.add_argument("folder", type=Path, help="the folder of both")
    parser.add_argument("--num_videos", type=int, default=200, help="videos to write")
    parser.add_argument("--seed", type=int, default=0, help="of the videos")
    options = parser.parse_args(argv)
    if options.step == "write":
        write(options.folder, options.num_videos, options.seed)
    else:
        print(table(score(options.folder, options.folder / "proposed.index.json")), end="")


if __name__ == "__main__":
    main()
