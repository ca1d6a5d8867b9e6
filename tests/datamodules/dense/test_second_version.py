"""Version 2 of an index: what version 1 cannot say, and only where it is needed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from datamodules.dense.dense_pairs import DensePairs
from datamodules.dense.facts import pair_row as read_row
from datamodules.dense.facts import read_condition, read_prompt
from datamodules.dense.latents import Latents
from datamodules.dense.rows import PairRow
from datamodules.schemas import index_shards, write_shards
from datamodules.shards.index import Index
from datamodules.shards.index_fields import version_of
from datamodules.shards.joined_index import joined
from tests.support.flow_harness import FlowRecorder, attached
from tests.support.flow_shards import LABELS, SPACE, pair_row, pair_sample, write_labels, write_latents

SHAPES = {"embeds": (3, 6), "pooled": (5,), "glyphs": (0, 4)}
IMAGE = (4, 1, 2, 4)


def sample(row: PairRow) -> tuple[str, dict[str, bytes]]:
    """A pair of two text streams that starts from an image."""
    key, members = pair_sample(row)
    prompt = {name: torch.randn(*shape) for name, shape in SHAPES.items()}
    latents = {name: torch.randn(*row.latent_shape) for name in ("first", "second")} | {"image": torch.full(IMAGE, 2.0)}
    return key, members | {"prompt.safetensors": save(prompt), "latents.safetensors": save(latents)}


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_shapes": SHAPES},
        {"image_shape": IMAGE},
        {"image_shape": IMAGE, "image_states_shape": (5, 6)},
        {"latent_space": replace(SPACE, leading_frames=1), "latent_shape": (4, 5, 2, 4)},
        {"kind": "imported", "eta": None, "seeds": None},
        {"eta": (0.7, 0.75)},
    ],
)
def test_a_row_comes_back_as_it_was_and_makes_the_index_version_2(tmp_path: Path, change: dict[str, Any]) -> None:
    row = replace(pair_row("p00"), **change)
    assert row.faults() == []
    assert PairRow.from_json(json.loads(json.dumps(row.to_json()))) == row
    index = write_shards([sample(row)], tmp_path / "pairs", "vidpref/pairs")
    again = Index.read(tmp_path / "pairs.index.json", "vidpref/pairs")
    assert (index.version, again.version, again.fingerprint) == (2, 2, index.fingerprint)
    (entry,) = again.entries
    assert replace(read_row(entry.key, entry.facts), prompt=row.prompt) == row


def test_what_version_1_can_say_is_said_in_version_1(tmp_path: Path) -> None:
    row = replace(pair_row("p00"), prompt_shapes={"embeds": (3, 6)})
    assert row.to_json()["prompt_shape"] == [3, 6]
    assert row.to_json().keys().isdisjoint({"prompt_shapes", "image_shape", "image_states_shape"})
    assert "leading_frames" not in row.to_json()["latent_space"]
    assert pair_row("p00").to_json()["prompt_shape"] is None
    first = write_shards([pair_sample(row)], tmp_path / "pairs", "vidpref/pairs")
    assert first.version == 1
    assert index_shards([tmp_path / "pairs-000000.tar"], "vidpref/pairs").fingerprint == first.fingerprint
    second = write_shards([sample(replace(pair_row("q00"), image_shape=IMAGE))], tmp_path / "more", "vidpref/pairs")
    assert joined([first, second]).version == 2


@pytest.mark.parametrize(
    ("facts", "version"),
    [({}, 1), ({"negative": None}, 2), ({"visible": [0, 0, 5, 5]}, 2), ({"eta": [0.1, 0.2]}, 2), ({"eta": 0.1}, 1)],
)
def test_the_version_is_the_lowest_that_holds_the_facts(facts: dict[str, Any], version: int) -> None:
    assert version_of([{}, facts]) == version


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "structural", "eta": None}, "none is not a noise level"),
        ({"kind": "structural", "seeds": None}, "only a pair of kind imported has none"),
        ({"eta": (0.7, 1.2)}, "0.7 and 1.2 is not a noise level"),
        ({"seeds": (3, 3)}, "are both 3"),
    ],
)
def test_only_an_imported_pair_may_lack_what_it_was_made_from(change: dict[str, Any], why: str) -> None:
    assert why in str(replace(pair_row("p00"), **change).faults()[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt_shapes", {"pooled": [5]}),
        ("prompt_shapes", {"embeds": [3, 0]}),
        ("image_shape", [4, 1, 2]),
        ("image_states_shape", [4]),
        ("eta", [0.1]),
        ("seeds", [1]),
        ("visible", [0, 0, 5]),
        ("negative", {"frames": 3}),
    ],
)
def test_a_field_of_the_wrong_form_is_refused_where_the_index_is_read(tmp_path: Path, name: str, value: Any) -> None:
    write_shards([sample(pair_row("p00"))], tmp_path / "pairs", "vidpref/pairs")
    path = tmp_path / "pairs.index.json"
    content = json.loads(path.read_text())
    content["samples"][0]["facts"][name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"sample 'p00': {name} is "):
        Index.read(path)


def test_streams_and_the_image_reach_the_batch_and_given_frames_lose_their_label(tmp_path: Path) -> None:
    keys = [f"p{number:02d}" for number in range(3)]
    rows = [replace(pair_row(key), prompt_shapes=SHAPES, image_shape=IMAGE) for key in keys]
    write_shards(map(sample, rows), tmp_path / "pairs", "vidpref/pairs")
    pairs = str(tmp_path / "pairs.index.json")
    labels = write_labels(pairs, [(1, 1, 0), (1, 0, 1), (-1, 0, 0)])
    module = FlowRecorder(
        prompt_shapes={"embeds": (4, 6), "pooled": (5,), "glyphs": (2, 4)},
        predicted_frames=lambda frames, condition: torch.arange(frames) >= (condition.image is not None),
    )
    data = attached(DensePairs(pairs, labels, batch_size=3, val=pairs, val_labels=labels), module)
    (batch,) = data.val_dataloader()
    assert {name: tuple(stream.shape) for name, stream in batch.prompts[0].items()} == SHAPES
    assert [condition.image.unique().tolist() for condition in batch.conditions] == [[2.0]] * 3
    # 13 frames are 4 latent frames; segments of 4 frames have 2, 1 and 1 of them.
    by_key = dict(zip(batch.keys, zip(batch.labels.tolist(), batch.segments.tolist(), strict=True), strict=True))
    assert by_key["p00"] == ([0, 1, 1, 0], [-1, 0, 1, 2])
    assert by_key["p02"] == ([0, -1, 0, 0], [-1, 0, 1, 2])
    assert data.selection("val").terms["frames"].tolist() == [2, 2, 1], "given frames are no items"


def test_a_frame_that_is_no_part_of_the_video_has_no_label_and_is_no_item(tmp_path: Path) -> None:
    space = replace(SPACE, leading_frames=1)
    row = replace(pair_row("p00"), latent_space=space, latent_shape=(4, 5, 2, 4))
    write_shards([pair_sample(row)], tmp_path / "pairs", "vidpref/pairs")
    pairs = str(tmp_path / "pairs.index.json")
    labels = write_labels(pairs, [(1, 0, -1)])
    data = attached(DensePairs(pairs, labels, pairs, labels), FlowRecorder(space=space))
    (batch,) = data.val_dataloader()
    # 13 frames are 4 latent frames behind the one that leads; segments of 4 frames have 2, 1 and 1 of them.
    assert batch.labels.tolist() == [[0, 1, 1, 0, -1]]
    assert batch.segments.tolist() == [[-1, 0, 0, 1, 2]]
    assert data.selection("val").terms["frames"].tolist() == [3]
    with pytest.raises(ValueError, match="leading_frames 1 is not 0"):
        attached(DensePairs(pairs, labels), FlowRecorder())


def test_samples_of_another_family_are_refused_before_training(tmp_path: Path) -> None:
    write_shards([sample(replace(pair_row("p00"), prompt_shapes=SHAPES))], tmp_path / "pairs", "vidpref/pairs")
    pairs = str(tmp_path / "pairs.index.json")
    labels = write_labels(pairs, LABELS)
    with pytest.raises(ValueError, match=r"streams embeds, pooled, glyphs, the policy takes embeds"):
        attached(DensePairs(pairs, labels), FlowRecorder())
    fault = FlowRecorder(condition_fault=lambda *_: "no image")
    with pytest.raises(ValueError, match=r"latents-000000\.tar: sample 'v00': no image"):
        attached(Latents(write_latents(tmp_path)), type(fault)({"s": "samples"}, condition_fault=lambda *_: "no image"))


def test_prompts_and_conditions_are_read_from_their_members() -> None:
    prompt = {"embeds": torch.ones(2, 3), "pooled": torch.ones(4)}
    assert read_prompt(save({name: stream.bfloat16() for name, stream in prompt.items()})).keys() == prompt.keys()
    assert read_prompt(save(prompt))["embeds"].dtype == torch.float32
    latents = save({"image": torch.ones(IMAGE)})
    assert read_condition(latents, {"fps": 8.0}).image is None
    both = save({"image": torch.ones(IMAGE), "image_states": torch.full((5, 6), 3.0)})
    condition = read_condition(both, {"fps": 8.0, "image_shape": IMAGE, "image_states_shape": [5, 6]})
    assert condition.image_states is not None
    assert condition.image_states.unique().tolist() == [3.0]
    assert condition.shapes() == {"image_shape": IMAGE, "image_states_shape": (5, 6)}
    assert {name: tensor.shape for name, tensor in condition.tensors().items()} == {
        "image": torch.Size(IMAGE), "image_states": torch.Size((5, 6))
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"holds \['image'\], not 'image_states'"):
        read_condition(latents, {"fps": 8.0, "image_states_shape": [5, 6]})
    with pytest.raises(ValueError, match=r"image is \[4, 1, 2, 4\], the index says \[4, 4, 2, 4\]"):
        read_condition(latents, {"fps": 8.0, "image_shape": [4, 4, 2, 4]})
