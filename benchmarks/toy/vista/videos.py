"""Videos of the toy world by which a policy is measured: the true claim, and all views that methods contrast."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.toy.vista.six_views import read_views
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.toy_world.questions import Claim, parse_claim
from datamodules.vista.annotations import Annotations
from datamodules.vista.frame_samplers import ViewFrames
from datamodules.vista.samples import AnswerName, Needs, PreferenceRow, View
from datamodules.vista.span_negatives import OtherVideo, Reverse, Shuffle, VideoNegative
from datamodules.vista.views import Negatives, ViewMaker
from lightning_modules.policies.video_llm import VideoLLM

#: The negatives of the whole video under which the right answer is scored, by the paper's names.
VIDEO_NEGATIVES: dict[str, VideoNegative] = {"reversed": Reverse(), "shuffled": Shuffle(), "other": OtherVideo()}
#: Views that are scored at once.
BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class ToyVideo:
    """Video of the toy world with one of its events.

    Attributes:
        key: of the sample.
        truth: the event, in words.
        original: the video, with the question, and the chosen and the rejected answer.
        contrasts: name -> the view under which the chosen answer is right, and that under which it is wrong: those of
            `VIDEO_NEGATIVES`, "clip" (the event, the other event) and "moved" (the boxed frame, its object moved).
    """

    key: str
    truth: Claim
    original: View
    contrasts: dict[str, tuple[View, View]]

    def asked(self, question: str, *answers: str) -> View:
        """The video with another question, and two or three answers to score (none to generate one)."""
        names: tuple[AnswerName, ...] = ("chosen", "rejected", "irrelevant")
        texts = dict(zip(names, answers, strict=False))
        return replace(self.original, prompt=question, answers=texts)


def read_videos(index_path: Path, num_frames: int, limit: int | None = None, seed: int = 0) -> list[ToyVideo]:
    """The videos of preference shards of the toy world.

    Args:
        index_path: the `.index.json` that `vidpref prepare toy` wrote.
        num_frames: frames per view.
        limit: the first so many; None = all.
        seed: of the negatives that are drawn.

    Raises:
        ValueError: a chosen answer states no claim of the toy world, or a sample lacks one of the views.
    """
    index = Index.read(index_path)
    positions = range(len(index) if limit is None else min(limit, len(index)))
    reader = SampleReader(index)
    rows = [PreferenceRow.from_json(json.loads(reader.read(position, ["json"])["json"])) for position in positions]
    originals: list[View] = []
    contrasts: list[dict[str, tuple[View, View]]] = [{} for _ in positions]
    for name, negative in VIDEO_NEGATIVES.items():
        needs: Needs = {"original": ("chosen", "rejected"), "video_negative": ("chosen",)}
        negatives = Negatives(video=negative)
        if not originals:
            needs = {**needs, **dict.fromkeys(("clip", "clip_negative", "object", "object_negative"), ("chosen",))}
        maker = ViewMaker(needs, negatives, ViewFrames(num_frames), seed)
        for place, views in enumerate(read_views(index, Annotations.of(index, negatives), maker, positions)):
            by_name = {view.name: view for view in views}
            if absent := needs.keys() - by_name.keys():
                raise ValueError(
                    f"{index_path}: {rows[place].key} lacks {sorted(absent)}; toy preference rows have all"
                )
            right = replace(by_name["original"], answers={"chosen": rows[place].chosen})
            contrasts[place][name] = (right, by_name["video_negative"])
            if len(needs) > 2:
                originals.append(by_name["original"])
                contrasts[place]["clip"] = (by_name["clip"], by_name["clip_negative"])
                contrasts[place]["moved"] = (by_name["object"], by_name["object_negative"])
    return [
        ToyVideo(row.key, _truth(row, index_path), original, own)
        for row, original, own in zip(rows, originals, contrasts, strict=True)
    ]


def _truth(row: PreferenceRow, path: Path) -> Claim:
    claim = parse_claim(row.chosen)
    if claim is None:
        raise ValueError(f"{path}: {row.key}: {row.chosen!r} states no claim; give shards that `prepare toy` wrote")
    return claim


def answer_scores(policy: VideoLLM, views: Sequence[View]) -> Tensor:
    """(V, A) float64 log-probability of each of the A answers of each of the V views, nats."""
    rows = []
    for start in range(0, len(views), BATCH_SIZE):
        batch = [replace(view, sample=place) for place, view in enumerate(views[start : start + BATCH_SIZE])]
        with torch.no_grad():
            scores: Tensor = policy.score(policy.encode(batch)).log_probs
        # float64: differences of large sums are compared.
        rows.append(scores.double().view(len(batch), -1))
    return torch.cat(rows)


def generated(policy: VideoLLM, views: Sequence[View], max_new_tokens: int) -> list[str]:
    """The policy's greedy answer to each view's question."""
    answers: list[str] = []
    for start in range(0, len(views), 2 * BATCH_SIZE):
        batch = views[start : start + 2 * BATCH_SIZE]
        answers += policy.generate([view.prompt for view in batch], [view.frames for view in batch], max_new_tokens)
    return answers
