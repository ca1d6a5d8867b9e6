"""Rows of other suites in views and steps: given videos, earlier turns, missing answers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from callbacks.reference.model import ReferenceModel
from datamodules.prepare.preferences import prepare_preferences
from datamodules.vista.span_negatives import GivenVideo
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.vista_dpo import VistaDPO, VistaWeights
from tests.support.annotated_videos import numbers
from tests.support.pairs_harness import attached, trainer
from tests.support.preference_fakes import TinyPolicy
from tests.support.preference_files import FORMATS, SWIFT, write_media, written


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media(tmp_path_factory.mktemp("media"))


def mixed_shards(media: Path, folder: Path) -> Path:
    """One row with another answer, one with another video alone, one with both."""
    rows = [
        SWIFT,
        {**SWIFT, "rejected_response": None, "videos": "clips/cup.mp4", "rejected_videos": "clips/cup_reversed.mp4"},
        {**SWIFT, "rejected_response": "A horse.", "rejected_videos": ["clips/two_turns.mp4"]},
    ]
    prepare_preferences(written(folder, "rows.jsonl", *rows), folder / "out", media=media)
    return folder / "out.index.json"


def test_a_given_video_is_the_negative_of_its_row_alone_and_a_missing_answer_leaves_the_denominators(
    media: Path, tmp_path: Path
) -> None:
    data = attached(
        VistaPairs(str(mixed_shards(media, tmp_path)), num_frames=4, batch_size=3, video_negative=GivenVideo())
    )
    (batch,) = data.train_dataloader()
    assert batch.denominators == {
        "response": 2.0, "token": 2.0, "supervised": 3.0, "video": 2.0, "clip": 1.0, "object": 1.0,  # of no item
    }  # fmt: skip
    shown = {(batch.keys[view.sample], view.name): numbers(view.frames) for view in batch.views}
    assert shown == {
        ("rows-000001", "original"): [18, 19, 21, 23],
        ("rows-000002", "original"): [24, 25, 27, 29],
        ("rows-000002", "video_negative"): [30, 31, 33, 35],
        ("rows-000003", "original"): [18, 19, 21, 23],
        ("rows-000003", "video_negative"): [36, 37, 39, 41],
    }
    answers = {batch.keys[view.sample]: list(view.answers) for view in batch.views if view.name == "original"}
    assert answers["rows-000002"] == ["chosen"]
    assert answers["rows-000001"] == answers["rows-000003"] == ["chosen", "rejected"]


def test_earlier_turns_reach_the_views(media: Path, tmp_path: Path) -> None:
    prepare_preferences(
        FORMATS / "ms_swift_dpo.jsonl", tmp_path / "out", media=media, media_prefix="/data", skip_bad=True
    )
    data = attached(VistaPairs(str(tmp_path / "out.index.json"), num_frames=2, batch_size=5))
    (batch,) = data.train_dataloader()
    turns = {batch.keys[view.sample]: view.turns for view in batch.views}
    assert turns["ms_swift_dpo-000007"] == (("First question?", "First answer."),)
    assert {turns[key] for key in turns if not key.endswith("7")} == {()}


def test_a_fit_step_trains_on_given_videos(media: Path, tmp_path: Path) -> None:
    """The row without a rejected answer trains the video term alone, by its own video."""
    data = VistaPairs(str(mixed_shards(media, tmp_path)), num_frames=4, batch_size=3, video_negative=GivenVideo())
    weights = VistaWeights(clip=0.0, object=0.0)
    module = VistaDPO(TinyPolicy(), partial(torch.optim.SGD, lr=0.05), weights=weights, schedule="constant", warmup=0.0)
    run = trainer(tmp_path, max_steps=1, callbacks=[ReferenceModel()])
    run.fit(module, data)
    logged = {name: float(value) for name, value in run.logged_metrics.items()}
    # At the start policy and reference agree, so every item's loss is log 2 and the means are over the items alone.
    for term in ("response", "video", "token"):
        assert logged[f"train/loss/{term}"] == pytest.approx(0.6931, abs=1e-3)
    moved = [name for name, value in module.named_parameters() if "lora_B" in name and value.abs().sum() > 0]
    assert moved
