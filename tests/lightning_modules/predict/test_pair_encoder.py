"""Pairs of mp4s of others -> pairs of kind imported with labels of whole videos -> a fit step."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from callbacks.reference.model import ReferenceModel
from callbacks.writers.shards import ShardWriter
from datamodules.dense.dense_pairs import DensePairs
from datamodules.dense.pair_labels import join_labels
from datamodules.dense.pair_videos import PairVideos
from datamodules.dense.rows import PairRow
from datamodules.dense.video_pairs import VideoPairs
from datamodules.prepare.labels import prepare_labels
from datamodules.prepare.pairs import prepare_pairs
from datamodules.prepare.verify import verify
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.video.codec import decode_frames, encode_mp4
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.predict.pair_encoder import PairEncoder, require_same_image
from lightning_modules.predict.segment_judge import SegmentJudge
from tests.support.judged_pairs import BrightnessJudge
from tests.support.predict_fakes import predict, trainer_with
from tests.support.tiny_wan import random_video, write_tiny_wan


def tiny_policy(folder: Path, **settings: Any) -> WanPolicy:
    return WanPolicy(str(folder / "wan"), prompt_length=32, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs, the second videos longer and faster, prepared and encoded."""
    folder = tmp_path_factory.mktemp("pairs")
    write_tiny_wan(folder / "wan")
    rows = []
    for number, label in enumerate(("A", "B", "same")):
        for side, count, rate in (("a", 9, 8.0), ("b", 21, 16.0)):
            frames = random_video(count, 16, 32, seed=10 * number + (side == "b"))
            (folder / f"{side}{number}.mp4").write_bytes(encode_mp4(frames, rate, lossless=True))
        rows.append({"path_A": f"a{number}.mp4", "path_B": f"b{number}.mp4", "prompt": f"video {number}", "VQ": label})
    (folder / "rows.json").write_text(json.dumps(rows))
    prepare_pairs(folder / "rows.json", folder / "given", lossless=True)
    data = VideoPairs(str(folder / "given.index.json"), batch_size=2)
    policy = tiny_policy(folder)
    predict(ShardWriter(str(folder / "pairs")), PairEncoder(policy), data)
    assert policy.model is None, "encoding needs no transformer"
    return folder


def test_latents_are_those_of_both_videos_and_the_mp4s_are_kept(folder: Path) -> None:
    assert verify(folder / "pairs.index.json") == []
    index, given = Index.read(folder / "pairs.index.json", "vidpref/pairs"), Index.read(folder / "given.index.json")
    assert index.version == 2
    assert [entry.key for entry in index.entries] == [f"rows-{number:06d}" for number in (1, 2, 3)]
    policy = tiny_policy(folder)
    for position in range(3):
        members, source = SampleReader(index).read(position), SampleReader(given).read(position)
        row = PairRow.from_json(json.loads(members["json"]))
        assert row.faults() == []
        assert (row.kind, row.eta, row.seeds, row.prompt) == ("imported", None, None, f"video {position}")
        assert (row.video.frames, row.video.fps, row.source) == (9, 8.0, "videoalign/VQ")
        latents = load(members["latents.safetensors"])
        for side in ("first", "second"):
            assert members[f"{side}.mp4"] == source[f"{side}.mp4"]
            frames = decode_frames(members[f"{side}.mp4"], range(9))
            assert torch.equal(latents[side], policy.encode_video([frames])[0])
        assert not torch.equal(latents["first"], latents["second"])
        assert torch.equal(
            load(members["prompt.safetensors"])["embeds"], policy.encode_prompt([row.prompt])[0]["embeds"]
        )


def test_the_index_says_what_the_pairs_are_made_from(folder: Path) -> None:
    made: Any = Index.read(folder / "pairs.index.json").made_from
    assert made["fingerprint"] == Index.read(folder / "given.index.json").fingerprint
    assert made["module"] == "PairEncoder"


def test_labels_of_whole_videos_train_on_imported_pairs(folder: Path) -> None:
    prepare_labels(folder / "given.labels.csv", folder / "pairs.index.json", folder / "labels", judge="others")
    labels = Index.read(folder / "labels.index.json")
    assert [entry.facts["whole"] for entry in labels.entries] == [1, -1, 0]
    data = DensePairs(str(folder / "pairs.index.json"), str(folder / "labels.index.json"), batch_size=2)
    module = DenseDPO(
        tiny_policy(folder, lora=FlowLora(r=2, alpha=2)), partial(torch.optim.SGD, lr=0.1), granularity="whole"
    )
    trainer = trainer_with([ReferenceModel()], max_steps=1, default_root_dir=folder)
    trainer.fit(module, data)
    # Policy and reference are the same at the start, and the tie takes no part.
    assert float(trainer.logged_metrics["train/loss"]) == pytest.approx(0.6931, abs=1e-3)


def test_a_judge_labels_segments_of_imported_pairs(folder: Path) -> None:
    predict(
        ShardWriter(str(folder / "judged")),
        SegmentJudge(BrightnessJudge(), segment_seconds=0.5),
        PairVideos(str(folder / "pairs.index.json")),
    )
    labels, pairs = Index.read(folder / "judged.index.json"), Index.read(folder / "pairs.index.json")
    assert join_labels([pairs], [labels]).faults() == []
    # Nine frames at 8 a second: two segments of half a second.
    assert [len(entry.facts["labels"]) for entry in labels.entries] == [2, 2, 2]


def test_videos_that_begin_with_different_frames_are_refused_to_a_policy_that_starts_from_an_image() -> None:
    first, second = random_video(1, 16, 32, seed=1)[0], random_video(1, 16, 32, seed=2)[0]
    require_same_image(first, (first.int() + 3).clamp(0, 255).to(torch.uint8))
    with pytest.raises(ValueError, match="its videos begin with different frames"):
        require_same_image(first, second)
