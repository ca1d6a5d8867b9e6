"""Weights that depend on the sample: by motion from the index, by difficulty from the reference's scores."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from datamodules.prepare.toy import prepare_toy
from datamodules.shards.index import Index
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import AnswerScores, View
from lightning_modules.terms import Term
from lightning_modules.weighted_vista import WeightedVistaDPO, motion_strength, motion_weights


def batch_of(keys: list[str], reference: list[float]) -> VistaBatch:
    """Samples with chosen and rejected under the video, and chosen under its negative: three scores each."""
    frames = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    views = []
    for sample in range(len(keys)):
        views.append(View(sample, "original", frames, "Why?", {"chosen": "Yes.", "rejected": "No."}))
        views.append(View(sample, "video_negative", frames, "Why?", {"chosen": "Yes."}))
    batch = VistaBatch(keys, views, torch.ones(len(keys), dtype=torch.bool), {"video": 4.0, "response": 4.0})
    scores = torch.tensor(reference)
    batch.reference = AnswerScores(scores, torch.ones(len(scores), dtype=torch.long))
    return batch


def module_of(weighting: Any) -> WeightedVistaDPO:
    return WeightedVistaDPO(weighting, policy=nn.Linear(1, 1))


def test_difficulty_weighs_by_how_little_the_reference_prefers_the_right_side() -> None:
    # Of the first sample the reference tells nothing apart, of the second the negative by 2 nats.
    batch = batch_of(["a", "b"], [-1.0, -1.0, -1.0, -1.0, -1.0, -3.0])
    values = torch.tensor([1.0, 1.0])
    module = module_of("difficulty")
    expected = torch.sigmoid(torch.tensor([0.0, -2.0]))
    weights = module.sample_weights("video", Term(values, [0, 1]), batch)
    assert torch.allclose(weights, expected / expected.mean())
    assert module.sample_weights("response", Term(values, [0, 1]), batch).tolist() == [1, 1]
    weighted = module.weighted({"video": Term(torch.tensor([3.0, 5.0]), [0, 1])}, batch)
    assert float(weighted["video"]) == pytest.approx(float((weights * torch.tensor([3.0, 5.0])).sum()) / 4)


def test_a_term_without_samples_weighs_nothing_and_keeps_its_graph() -> None:
    values = torch.empty(0, requires_grad=True)
    batch = batch_of(["a"], [0.0, 0.0, 0.0])
    for weighting in ("difficulty", "motion"):
        module = module_of(weighting)
        module._motion = {}
        loss = module.weighted({"video": Term(values, [])}, batch)["video"]
        loss.backward()
        assert float(loss.detach()) == 0


def test_motion_is_the_speed_of_the_boxes_centre_from_the_index() -> None:
    boxes = [[10, 20, 4, 4, 0.5], [16, 28, 4, 4, 1.0], [0, 0, 4, 4, None]]
    assert motion_strength({"boxes": boxes, "height": 48}) == pytest.approx(10 / 48 / 0.5)
    assert motion_strength({"boxes": boxes[:1], "height": 48}) is None
    assert motion_strength({"height": 48}) is None


def test_motion_weighs_the_terms_about_time_and_on_average_1(tmp_path: Path) -> None:
    prepare_toy(str(tmp_path / "train"), num_videos=40, slow=0.5)
    index = Index.read(tmp_path / "train.index.json")
    weights = motion_weights(index)
    assert sum(weights.values()) / 40 == pytest.approx(1)
    # Slow things go a quarter of the way in the same time.
    assert max(weights.values()) > 3 * min(weights.values())
    keys = [index.entries[0].key, "without boxes"]
    module = module_of("motion")
    module._trainer = SimpleNamespace(datamodule=SimpleNamespace(index=lambda split: index))  # type: ignore[assignment]
    batch, term = batch_of(keys, [0.0] * 6), Term(torch.ones(2), [0, 1])
    assert module.sample_weights("video", term, batch).tolist() == pytest.approx([weights[keys[0]], 1])
    assert module.sample_weights("object", term, batch).tolist() == [1, 1]


def test_an_index_without_boxes_weighs_all_alike() -> None:
    entries = [SimpleNamespace(key="a", facts={"height": 48})]
    assert motion_weights(SimpleNamespace(entries=entries)) == {}  # type: ignore[arg-type]
