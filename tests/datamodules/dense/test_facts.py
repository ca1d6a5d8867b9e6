"""The schemas of the video diffusion journey: written, indexed again, verified, and refused where they are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from datamodules.dense.facts import label_row, latent_row
from datamodules.dense.facts import pair_row as pair_row_of
from datamodules.dense.rows import LabelRow, VideoRow
from datamodules.prepare.index import prepare_index, prepare_verify
from datamodules.prepare.verify import verify
from datamodules.schemas import index_shards, write_shards
from datamodules.shards.checks import load_index
from datamodules.shards.index import Index
from datamodules.video.codec import encode_mp4
from tests.support.flow_shards import SPACE, VIDEO, pair_row, pair_sample, write_flow_shards, write_latents

Sample = tuple[str, dict[str, bytes]]


def video(frames: int = VIDEO.frames) -> bytes:
    rng = np.random.default_rng(frames)
    size = (frames, VIDEO.height, VIDEO.width, 3)
    return encode_mp4(rng.integers(0, 255, size, dtype=np.uint8), fps=VIDEO.fps)


def real_pair(**members: bytes) -> Sample:
    key, files = pair_sample(pair_row("p00"))
    return key, files | {"first.mp4": video(), "second.mp4": video()} | members


def test_facts_give_the_rows_back_without_their_texts(tmp_path: Path) -> None:
    pairs, labels = write_flow_shards(tmp_path, 2)
    entry = Index.read(pairs).entries[1]
    assert "A disc" not in json.dumps(entry.facts)
    assert pair_row_of(entry.key, entry.facts) == replace(pair_row("p01"), prompt="-")
    label = Index.read(labels).entries[0]
    assert label_row(label.key, label.facts) == LabelRow("p00", (1, 1, 0), 4, judge="tests")
    encoded = Index.read(write_latents(tmp_path, 1)).entries[0]
    row = latent_row(encoded.key, encoded.facts)
    assert (row.video, row.latent_shape, row.latent_space) == (VIDEO, SPACE.shape(VIDEO), SPACE)


def test_every_schema_is_indexed_anew_and_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = VideoRow("v00", "v", "A disc moves.", VIDEO)
    write_shards([("v00", {"mp4": video(), "json": json.dumps(row.to_json()).encode()})], tmp_path / "videos",
                 "vidpref/videos")  # fmt: skip
    write_shards([real_pair()], tmp_path / "real", "vidpref/pairs")
    write_flow_shards(tmp_path)
    write_latents(tmp_path)
    for name, schema in (("videos", "videos"), ("real", "pairs"), ("latents", "latents"), ("labels", "labels")):
        known = Index.read(tmp_path / f"{name}.index.json", f"vidpref/{schema}")
        again = str(tmp_path / f"{name}-again.index.json")
        prepare_index([f"{tmp_path}/{name}-0*.tar"], again, f"vidpref/{schema}")
        assert Index.read(again).entries == known.entries
        prepare_verify(again)
    assert capsys.readouterr().out.count("sound") == 4


@pytest.mark.parametrize(
    ("member", "content", "why"),
    [
        ("second.mp4", lambda: video(9), r"\.second\.mp4: frames is 9, the index says 13"),
        ("latents.safetensors", lambda: save({"first": torch.zeros(4, 4, 2, 4)}), r"holds \['first'\], not 'second'"),
        (
            "latents.safetensors",
            lambda: save({name: torch.zeros(1, 4, 2, 4) for name in ("first", "second")}),
            r"first is \[1, 4, 2, 4\], the index says \[4, 4, 2, 4\]",
        ),
        ("prompt.safetensors", lambda: save({"embeds": torch.zeros(0, 6)}), "of a prompt"),
        ("prompt.safetensors", lambda: save({"embeds": torch.full((2, 6), torch.inf)}), "not finite"),
        ("prompt.safetensors", lambda: b"no tensors", "cannot be read"),
    ],
)
def test_verify_finds_members_that_the_facts_do_not_describe(
    tmp_path: Path, member: str, content: Callable[[], bytes], why: str
) -> None:
    write_shards([real_pair(**{member: content()})], tmp_path / "pairs", "vidpref/pairs")
    (problem,) = verify(tmp_path / "pairs.index.json")
    with pytest.raises(ValueError, match=rf"pairs-000000\.tar: sample 'p00': .*{why}"):
        raise ValueError(problem)


def changed(**fields: Any) -> Sample:
    key, members = pair_sample(pair_row("p00"))
    record = json.loads(members["json"]) | fields
    return key, members | {"json": json.dumps(record).encode()}


def without(member: str) -> Sample:
    key, members = pair_sample(pair_row("p00"))
    return key, {name: content for name, content in members.items() if name != member}


def label(**fields: Any) -> Sample:
    record = {"key": "p00", "labels": [1], "frames_per_segment": 4} | fields
    return "p00", {"json": json.dumps(record).encode()}


@pytest.mark.parametrize(
    ("sample", "schema", "why"),
    [
        (changed(prompt=""), "pairs", "prompt: is empty"),
        (changed(eta=0), "pairs", r"eta: 0 is not a noise level in \(0, 1\]"),
        (changed(eta=1.01), "pairs", r"eta: 1\.01 is not"),
        (changed(kind="dense"), "pairs", "kind: 'dense' is none of structural and vanilla"),
        (changed(latent_shape=[4, 4, 2, 5]), "pairs", "latent_shape"),
        (changed(key="p01"), "pairs", "key: the row says 'p01'"),
        (changed(extra=1), "pairs", "is not a PairRow.*extra"),
        (without("second.mp4"), "pairs", r"\.second\.mp4 is missing"),
        (without("prompt.safetensors"), "pairs", r"\.prompt\.safetensors is missing"),
        (without("json"), "pairs", "is not a PairRow"),
        (label(labels=[0.5]), "labels", r"\[0\.5\] are none of \+1"),
        (label(verdicts=[["tie", "tie"]] * 2), "labels", "verdicts: are 2 for 1 labels"),
        (("v", {"mp4": b"-", "json": json.dumps({"key": "v", "video_id": "v", "caption": " ",
                                                 "video": asdict(VIDEO)}).encode()}), "videos", "caption: is empty"),
        (changed(), "latents", "is not a LatentRow"),
    ],
)  # fmt: skip
def test_a_wrong_row_does_not_get_into_a_shard_or_an_index(
    tmp_path: Path, sample: Sample, schema: str, why: str
) -> None:
    with pytest.raises(ValueError, match=rf"wrong-000000\.tar.*: {sample[0]}: .*{why}"):
        write_shards([sample], tmp_path / "wrong", f"vidpref/{schema}")
    assert list(tmp_path.iterdir()) == []
    write_shards([sample], tmp_path / "wrong", f"vidpref/{schema}", facts_of=lambda key, record, suffixes: {})
    with pytest.raises(ValueError, match=why):
        index_shards([tmp_path / "wrong-000000.tar"], f"vidpref/{schema}")


def test_a_reader_may_understand_several_schemas(tmp_path: Path) -> None:
    latents, (pairs, labels) = write_latents(tmp_path), write_flow_shards(tmp_path)
    schemas = ("vidpref/latents", "vidpref/pairs")
    assert load_index(latents, schemas).schema == "vidpref/latents"
    assert load_index(pairs, schemas).schema == "vidpref/pairs"
    with pytest.raises(ValueError, match="'vidpref/labels', expected vidpref/latents or vidpref/pairs"):
        load_index(labels, schemas)
