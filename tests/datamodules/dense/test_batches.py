from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

import datamodules.dense.noise_draw
from datamodules.dense.batches import FlowErrors, LatentBatch, PairBatch, PairVideoBatch, VideoBatch
from datamodules.dense.inputs import Condition
from datamodules.dense.latent_space import LatentSpace
from datamodules.dense.noise_draw import FlowDraw
from datamodules.dense.rows import LabelRow, LatentRow, VideoRow
from datamodules.video.facts import VideoFacts
from tests.support.flow_shards import SPACE, VIDEO, pair_row

VIDEO_ROW = VideoRow("a", "v", "A disc moves.", VIDEO, "here", {"motion": 3.5})
LATENT_ROW = LatentRow("a", "v", "A disc.", VIDEO, latent_shape=(4, 4, 2, 4), latent_space=SPACE)
LABEL_ROW = LabelRow("a", (1, 0, -1), 4, (("first", "second"), ("tie", "tie"), ("second", "first")), "a judge", 1)


@pytest.mark.parametrize("row", [VIDEO_ROW, LATENT_ROW, pair_row("a", sampler={"steps": 40}), LABEL_ROW])
def test_rows_survive_their_file(row: VideoRow | LabelRow) -> None:
    written = row.to_json()
    assert written == json.loads(json.dumps(written)), "facts equal what an index gives back"
    assert type(row).from_json(written) == row
    assert not row.faults()
    with pytest.raises(TypeError):
        type(row).from_json(written | {"unknown": 1})


def test_empty_texts_and_verdicts_that_do_not_fit_are_faults() -> None:
    assert [fault.field for fault in replace(VIDEO_ROW, caption="", key=" ").faults()] == ["key", "caption"]
    assert [fault.field for fault in replace(LATENT_ROW, latent_shape=(4, 4, 4, 4)).faults()] == ["latent_shape"]
    assert [fault.field for fault in replace(LABEL_ROW, verdicts=(("tie", "tie"),)).faults()] == ["verdicts"]
    assert [fault.field for fault in replace(LABEL_ROW, frames_per_segment=0).faults()] == ["frames_per_segment"]


def test_a_whole_label_is_the_one_that_was_asked_for_or_the_majority() -> None:
    golden = json.loads(Path("tests/golden/dense_6_labels.json").read_text())["majority"]
    for case in golden:
        assert LabelRow("a", tuple(case["labels"]), 4).preference == case["majority"]
    assert LabelRow("a", (1, 1, 1), 4, whole=-1).preference == -1


def test_a_latent_space_knows_its_shapes_and_its_differences() -> None:
    wan = LatentSpace("wan", tuple(range(16)), (2.0,) * 16, 4, 8)
    assert wan.shape(VideoFacts(81, 16.0, 832, 480)) == (16, 21, 60, 104)
    assert wan.faults_against(LatentSpace.from_json(wan.to_json())) == []
    assert wan.faults_against(replace(wan, std=(2.000001,) * 16)) == []
    assert wan.faults_against(replace(wan, spatial_ratio=16)) == ["spatial_ratio 8 is not 16"]
    marked = replace(wan, weights="a")
    assert wan.faults_against(marked) == marked.faults_against(wan) == [], "what is not known does not differ"
    assert marked.faults_against(replace(wan, weights="b")) == ["weights 'a' is not 'b'"]
    (fault,) = wan.faults_against(replace(wan, std=(0.5,) * 16))
    assert fault == "std [2, 2, 2, 2, ...] (16 channels) is not [0.5, 0.5, 0.5, 0.5, ...] (16 channels)"


def test_time_is_logit_normal_shifted_as_in_the_golden_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = json.loads(Path("tests/golden/dense_7_time_norm.json").read_text())["logit_normal"]
    for case in golden:
        normal = SimpleNamespace(standard_normal=lambda z=case["z"]: z)
        monkeypatch.setattr(datamodules.dense.noise_draw, "generator", lambda *names, normal=normal: normal)
        for shift, field in ((1.0, "t"), (3.0, "t_shift3"), (5.0, "t_shift5")):
            draw = FlowDraw(0, case["mean"], case["std"], shift)
            assert draw.time("a", 0) == pytest.approx(case[field], abs=1e-12)


def test_times_and_noise_have_their_distributions() -> None:
    draw = FlowDraw(3, mean=0.5, std=2.0)
    times = torch.tensor([draw.time(f"k{number}", 0) for number in range(4000)], dtype=torch.float64)
    logits = torch.logit(times)
    assert float(logits.mean()) == pytest.approx(0.5, abs=0.1)
    assert float(logits.std()) == pytest.approx(2.0, abs=0.1)
    # What is drawn again moves nothing that was within the range.
    low = FlowDraw(3, mean=0.5, std=2.0, lowest=0.2, highest=0.875)
    again = torch.tensor([low.time(f"k{number}", 0) for number in range(4000)], dtype=torch.float64)
    inside = (times >= 0.2) & (times <= 0.875)
    assert torch.equal(times[inside], again[inside])
    assert 0.2 <= float(again.min()) <= float(again.max()) <= 0.875
    noise = draw.noise("a", 0, (4, 5, 16, 16))
    assert noise.dtype == torch.float32
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(noise.std()) == pytest.approx(1.0, abs=0.05)
    assert float((noise * draw.noise("b", 0, noise.shape)).mean()) == pytest.approx(0.0, abs=0.05)
    assert not torch.equal(noise, draw.noise("a", 1, noise.shape))
    assert math.isclose(FlowDraw(3).time("a", 0), FlowDraw(3).time("a", 0))


def test_the_draw_is_pinned() -> None:
    """A resumed run relies on it staying the same over releases of numpy and of this project."""
    draw = FlowDraw(7)
    assert draw.time("a/b", 2) == pytest.approx(0.3125304848284235, abs=1e-12)
    noise = [-0.7754303813, 0.6303457022, 0.4125542939, -0.5592820644]
    assert draw.noise("a/b", 2, (2, 2)).flatten().tolist() == pytest.approx(noise, abs=1e-6)


def test_batches_move_to_a_device_with_their_rows() -> None:
    frames, mask = [torch.zeros(5, 3, 8, 8, dtype=torch.uint8)], torch.tensor([True])
    videos = move_data_to_device(VideoBatch(["a"], [VIDEO_ROW], frames, mask), "meta")
    assert videos.rows == [VIDEO_ROW]
    assert videos.frames[0].device.type == videos.mask.device.type == "meta"
    pair = move_data_to_device(PairVideoBatch(["a"], [pair_row("a")], frames, frames, mask), "meta")
    assert pair.second[0].device.type == "meta"
    latents, labels = torch.zeros(1, 4, 4, 2, 4), torch.zeros(1, 4, dtype=torch.int8)
    batch = PairBatch(
        ["a"], latents, latents, [{"embeds": latents[0, 0, 0]}], latents, mask, labels, labels, labels, mask, {"p": 2.0}
    )
    batch.reference = FlowErrors(latents[0, 0], latents[0, 0])
    batch.conditions = [Condition(8.0, latents[0, :, :1]), Condition(8.0)]
    moved = move_data_to_device(batch, "meta")
    assert moved.reference.second.device.type == moved.prompts[0]["embeds"].device.type == moved.t.device.type == "meta"
    assert moved.conditions[0].image.device.type == "meta"
    assert moved.conditions[1] == Condition(8.0)
    assert (moved.keys, moved.denominators) == (["a"], {"p": 2.0})


def test_items_are_counted_when_a_pair_batch_is_made() -> None:
    latents, t, mask = torch.zeros(3, 4, 2, 2, 2), torch.full((3,), 0.5), torch.tensor([True, True, False])
    labels = torch.tensor([[0, -1], [1, 1], [0, 0]], dtype=torch.int8)
    preference = torch.tensor([-1, 0, 0], dtype=torch.int8)
    batch = PairBatch(["a", "b", "c"], latents, latents, [], latents, t, labels, labels, preference, mask)
    positions = {kind: places.tolist() for kind, places in batch.items.items()}
    assert positions == {"decided_frames": [1, 2, 3], "decided_videos": [0], "decided_pairs": [0, 1]}
    assert batch.item_samples == {"decided_frames": [0, 1, 1], "decided_videos": [0], "decided_pairs": [0, 1]}
    moved = move_data_to_device(batch, "meta")
    assert moved.items["decided_frames"].device.type == "meta"
    assert moved.items["decided_frames"].shape == (3,)
    assert moved.item_samples == batch.item_samples
    assert replace(batch, labels=torch.zeros_like(labels)).items["decided_frames"].tolist() == []
    videos = LatentBatch(["a", "b", "c"], latents, [], latents, t, mask)
    assert videos.items["samples"].tolist() == videos.item_samples["samples"] == [0, 1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_pinned_in_place() -> None:
    latents, mask = torch.zeros(1, 4, 4, 2, 4), torch.tensor([True])
    batch = PairBatch(["a"], latents, latents, [{"embeds": latents[0]}], latents, mask, mask, mask, mask, mask)
    assert batch.pin_memory() is batch
    assert batch.items["decided_frames"].is_pinned()
    assert batch.first.is_pinned()
    assert batch.prompts[0]["embeds"].is_pinned()
