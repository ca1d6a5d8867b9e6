"""Conditions of the VistaDPO study: the toy checkpoint answers from its language prior, though it sees the video.

    python -m benchmarks.toy.vista.conditions
    python -m benchmarks.toy.vista.conditions runs/toy/questions/exports/last

Printed and checked before anything is fitted. Where one fails, that is the result, and nothing is fitted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.base.results import write_json
from benchmarks.toy.commands import ROOT
from benchmarks.toy.vista.measures import gaps, yes_no
from benchmarks.toy.vista.videos import ToyVideo, read_videos
from lightning_modules.policies.video_llava import VideoLlavaPolicy

CHECKPOINT = ROOT / "datamodules/toy_world/checkpoints/video_llava"
#: Shards of fixed rows that come with the project: at the prior that fits see, and balanced.
NATURAL, BALANCED = (ROOT / f"datamodules/toy_world/prior_pairs/{name}.index.json" for name in ("natural", "balanced"))
NUM_FRAMES = 4


@dataclass(frozen=True, slots=True)
class Condition:
    """Condition on one number of the base model.

    Attributes:
        name: what is measured.
        value: the number.
        least: the number must be above it; None = no such bound.
        most: the number must not be above it; None = no such bound.
    """

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the number is within its bounds."""
        return (self.least is None or self.value > self.least) and (self.most is None or self.value <= self.most)

    @property
    def is_free(self) -> bool:
        """Whether it has no bound, and stops nothing."""
        return self.least is None and self.most is None

    @property
    def bound(self) -> str:
        """The bound in words."""
        if self.is_free:
            return "printed only"
        return f"above {self.least:g}" if self.least is not None else f"at most {self.most:g}"


#: Measure -> title and bounds (above, at most), of the rows at the natural prior.
OF_ROWS: dict[str, tuple[str, float | None, float | None]] = {
    "gap_reversed": ("log p(right answer), video against reversed video, nats", None, 2.5),
    "gap_shuffled": ("the same against the shuffled video", None, 2.5),
    "gap_other": ("the same against another video", None, 2.5),
    "gap_moved": ("the same, key frame against the object moved", None, 2.5),
    "above_reversed": ("rows in which the video is above the reversed video", 0.9, None),
}
#: The same of the balanced rows.
OF_QUESTIONS: dict[str, tuple[str, float | None, float | None]] = {
    "auc_usual": ("AUC of yes over no, usual facts", 0.95, None),
    # "Below 0.3": at most the next smaller number.
    "auc_counter": ("AUC of yes over no, counter-prior facts", None, float(np.nextafter(0.3, 0))),
}


def conditions(
    rows: Mapping[str, float], questions: Mapping[str, float], probe: Mapping[str, float]
) -> list[Condition]:
    """The conditions of measured numbers.

    Args:
        rows: `measures.gaps` of the base on rows at the natural prior.
        questions: `measures.yes_no` of the base on balanced rows.
        probe: `linear_probe` of the base; it has no bound.
    """
    found = [Condition(title, rows[name], least, most) for name, (title, least, most) in OF_ROWS.items()]
    found += [Condition(title, questions[name], least, most) for name, (title, least, most) in OF_QUESTIONS.items()]
    return found + [Condition(f"linear probe of the projected frames: {name}", value) for name, value in probe.items()]


def measure_conditions(
    policy: VideoLlavaPolicy, natural: Path = NATURAL, balanced: Path = BALANCED, num_frames: int = NUM_FRAMES
) -> list[Condition]:
    """Measure the conditions of a policy without an adapter.

    Args:
        policy: loaded.
        natural: the index of preference rows at the natural prior.
        balanced: the index of balanced preference rows.
        num_frames: frames per view, as the policy takes.
    """
    rows, videos = read_videos(natural, num_frames), read_videos(balanced, num_frames)
    return conditions(gaps(policy, rows), yes_no(policy, videos), linear_probe(policy, [*rows, *videos]))


def linear_probe(policy: VideoLlavaPolicy, videos: Sequence[ToyVideo]) -> dict[str, float]:
    """Accuracy with which a linear map reads facts from the projector's output, fitted on every other video.

    Returns:
        "direction", "place", and "first color", the colour that moves first.
    """
    features = torch.stack([_projected(policy, video) for video in videos]).double().numpy()
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    first = [
        video.truth.other.color if video.truth.order == "after" and video.truth.other else video.truth.thing.color
        for video in videos
    ]
    facts = {
        "direction": [video.truth.direction for video in videos],
        "place": [video.truth.place for video in videos],
        "first color": first,
    }
    return {name: _ridge_accuracy(features, labels) for name, labels in facts.items()}


def _projected(policy: VideoLlavaPolicy, video: ToyVideo) -> Tensor:
    """(T * P * W,) the projector's output for one video's frames."""
    outputs: list[Tensor] = []
    projector: Any = policy.base.model.multi_modal_projector
    handle = projector.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach()))
    try:
        with torch.no_grad():
            policy.score(policy.encode([video.original]))
    finally:
        handle.remove()
    return outputs[0].flatten()


def _ridge_accuracy(features: NDArray[np.float64], labels: Sequence[str], penalty: float = 100.0) -> float:
    """Accuracy on the odd rows of a ridge regression onto one-hot labels that was fitted on the even rows."""
    names = sorted(set(labels))
    targets = np.array([[label == name for name in names] for label in labels], dtype=np.float64)
    fit, held_out = features[::2], features[1::2]
    centre = targets[::2].mean(0)
    # The dual form: far fewer rows than features.
    kernel = fit @ fit.T + penalty * np.eye(len(fit))
    predicted = held_out @ fit.T @ np.linalg.solve(kernel, targets[::2] - centre) + centre
    return float((predicted.argmax(1) == targets[1::2].argmax(1)).mean())


def table(found: Sequence[Condition]) -> str:
    """The conditions in Markdown."""
    lines = ["| condition | base | bound | holds |", "|---|---:|---:|---|"]
    for condition in found:
        holds = "-" if condition.is_free else "yes" if condition.holds else "**no**"
        lines.append(f"| {condition.name} | {condition.value:.3f} | {condition.bound} | {holds} |")
    return "\n".join(lines) + "\n"


def records(found: Sequence[Condition]) -> list[dict[str, Any]]:
    """The conditions as JSON types."""
    return [asdict(condition) | {"holds": condition.holds} for condition in found]


def read_conditions(path: Path) -> list[Condition]:
    """The conditions that `--output` wrote."""
    names = ("name", "value", "least", "most")
    return [Condition(**{name: record[name] for name in names}) for record in json.loads(path.read_text())]


def load_base(path: Path = CHECKPOINT, num_frames: int = NUM_FRAMES, adapter: Path | None = None) -> VideoLlavaPolicy:
    """The policy of a checkpoint, loaded.

    Args:
        path: the checkpoint.
        num_frames: frames per view.
        adapter: a folder that a fit exported; None = the checkpoint as it is.
    """
    policy = VideoLlavaPolicy(
        str(path), lora=None, num_frames=num_frames, adapter=None if adapter is None else str(adapter)
    )
    policy.load()
    policy.eval()
    return policy


def main(argv: Sequence[str] | None = None) -> int:
    """Print the conditions; the exit status is 1 where one fails, or 0 where a file takes them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.toy.vista.conditions", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", default=CHECKPOINT, help="by default the shipped one")
    parser.add_argument("--num-frames", type=int, default=NUM_FRAMES, help="frames per view")
    parser.add_argument("--natural", type=Path, default=NATURAL, help="index of rows at the prior; by default shipped")
    parser.add_argument("--balanced", type=Path, default=BALANCED, help="index of balanced rows; by default shipped")
    parser.add_argument("--output", type=Path, help="a JSON file that takes the conditions")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    policy = load_base(options.checkpoint, options.num_frames)
    found = measure_conditions(policy, options.natural, options.balanced, options.num_frames)
    sys.stdout.write(table(found))
    if options.output is not None:
        write_json(options.output, records(found))
        return 0
    return 0 if all(condition.holds for condition in found) else 1


if __name__ == "__main__":
    sys.exit(main())
