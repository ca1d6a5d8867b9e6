"""`prepare index` and `prepare verify` on real, tiny videos."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save

from datamodules.prepare.index import prepare_index, prepare_verify
from datamodules.prepare.verify import verify
from datamodules.schemas import write_shards
from datamodules.shards.index import Index, ShardEntry
from datamodules.video.codec import encode_mp4
from tests.support.flow_shards import write_flow_shards
from tests.support.shard_samples import flip_byte, sample, small_shards, tar_of


def video(frames: int = 8) -> bytes:
    rng = np.random.default_rng(0)
    return encode_mp4(rng.integers(0, 255, (frames, 24, 32, 3), dtype=np.uint8), fps=4.0)


def test_index_of_shards_that_others_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = small_shards(tmp_path)
    (tmp_path / "train.index.json").unlink()
    prepare_index([str(tmp_path / "train-*.tar")], str(tmp_path / "mine.index.json"))
    assert "23 samples in 5 shards" in capsys.readouterr().out
    assert Index.read(tmp_path / "mine.index.json").fingerprint == index.fingerprint


def test_a_shard_whose_name_reads_as_a_pattern_is_meant_itself(tmp_path: Path) -> None:
    small_shards(tmp_path)
    shard = next(tmp_path.glob("train-*.tar"))
    for name in ("tr[ai]n-000000.tar", "tran-000000.tar"):
        shutil.copy(shard, tmp_path / name)
    prepare_index([str(tmp_path / "tr[ai]n-000000.tar")], str(tmp_path / "mine.index.json"))
    assert [shard.name for shard in Index.read(tmp_path / "mine.index.json").shards] == ["tr[ai]n-000000.tar"]


def test_an_index_of_labels_names_the_pairs_they_were_made_for(tmp_path: Path) -> None:
    shards = write_flow_shards(tmp_path)
    written = Index.read(shards.labels)
    (Path(shards.labels)).unlink()
    pattern = shards.labels.replace(".index.json", "-*.tar")
    prepare_index([pattern], shards.labels, "vidpref/labels", made_from=shards.pairs)
    assert Index.read(shards.labels).made_from["fingerprint"] == Index.read(shards.pairs).fingerprint
    assert Index.read(shards.labels).made_from["fingerprint"] == written.made_from["fingerprint"]


@pytest.mark.parametrize(
    ("shards", "output", "why"),
    [
        ("train-*.tar", "train.json", "call it NAME.index.json"),
        ("train-*.tar", "train.index.json", "is there already"),
        ("train-*.tar", "other/train.index.json", "must be in the folder of its shards"),
        ("absent-*.tar", "absent.index.json", "no such shard"),
    ],
)
def test_what_prepare_index_refuses(tmp_path: Path, shards: str, output: str, why: str) -> None:
    small_shards(tmp_path)
    with pytest.raises(ValueError, match=why):
        prepare_index([str(tmp_path / shards)], str(tmp_path / output))


def test_sound_shards_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shards([sample("s001", video()), sample("s002", video())], tmp_path / "train")
    prepare_verify(str(tmp_path / "train.index.json"))
    assert "sound" in capsys.readouterr().out
    side = [("s001", {"scores.safetensors": save({"log_probs": torch.zeros(3)})})]
    write_shards(side, tmp_path / "side", "vidpref/side")
    assert verify(tmp_path / "side.index.json") == []


def test_verify_lists_every_problem(tmp_path: Path) -> None:
    short, garbage = sample("s002", video(5)), sample("s003", b"no video")
    index = write_shards([sample("s001", video()), short, garbage, sample("s004", video())], tmp_path / "train")
    flip_byte(index, 3)
    with pytest.raises(ValueError, match="4 problems") as error:
        prepare_verify(str(tmp_path / "train.index.json"))
    _, *lines = str(error.value).splitlines()
    assert "train-000000.tar: its sha256 differs" in lines[0]
    assert "sample 's002': .mp4: frames is 5, the index says 8" in lines[1]
    assert "sample 's003': .mp4: ValueError: undecodable" in lines[2]
    assert "sample 's004': .mp4 was altered" in lines[3]
    assert len(verify(tmp_path / "train.index.json", decode=False)) == 2
    assert "sample 's001': .notes.jpg" in verify_member(tmp_path, "notes.jpg")
    assert "sample 's001': .x.safetensors" in verify_member(tmp_path, "x.safetensors")


def verify_member(folder: Path, suffix: str) -> str:
    write_shards([("s001", {suffix: b"garbage"})], folder / suffix, "vidpref/side")
    (problem,) = verify(folder / f"{suffix}.index.json")
    return problem


def test_verify_tells_of_a_shard_without_samples(tmp_path: Path) -> None:
    index = write_shards([sample("s001", video())], tmp_path / "train")
    tar_of(tmp_path / "none.tar", {})
    content = (tmp_path / "none.tar").read_bytes()
    empty = ShardEntry(str(tmp_path / "none.tar"), len(content), hashlib.sha256(content).hexdigest(), 0)
    replace(index, shards=(*index.shards, empty)).write(tmp_path / "train.index.json")
    with pytest.raises(ValueError, match=r"^1 problem:\n.*none.tar: holds no sample") as error:
        prepare_verify(str(tmp_path / "train.index.json"))
    assert str(error.value).count(str(tmp_path)) == 1


def test_verify_of_a_missing_shard_or_index(tmp_path: Path) -> None:
    index = small_shards(tmp_path)
    Path(index.shards[4].address).unlink()
    (problem,) = verify(tmp_path / "train.index.json")
    assert "train-000004.tar: no such shard" in problem
    (problem,) = verify(tmp_path / "absent.index.json")
    assert "no such index" in problem


def test_verify_says_now_and_then_how_far_it_is_without_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(tmp_path)
    path = str(tmp_path / "train.index.json")
    prepare_verify(path, decode=False)
    assert capsys.readouterr().err == "", "short ones are silent"
    clock = iter(range(0, 1000, 5))  # five seconds pass at each look
    monkeypatch.setattr("datamodules.prepare.index.time", SimpleNamespace(monotonic=lambda: next(clock)))
    prepare_verify(path, decode=False)
    lines = [
        f"verifying {path}: 4 of 5 shards",
        *(f"verifying {path}: {n} of 23 samples" for n in (3, 7, 11, 15, 19, 23)),
    ]
    assert capsys.readouterr().err.splitlines() == lines
