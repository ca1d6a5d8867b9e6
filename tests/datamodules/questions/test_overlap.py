"""Overlap of training shards and a benchmark: by name in published layouts, by frames through size and compression."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn.functional import interpolate

from callbacks.benchmark_overlap import BenchmarkOverlap
from datamodules.prepare.overlap import prepare_overlap
from datamodules.questions.overlap import plain_id, shared_by_frames, shared_by_id
from datamodules.schemas import write_shards
from datamodules.video.codec import encode_mp4, probe
from datamodules.video.hashes import hash_distances, video_hash
from datamodules.vista.samples import PreferenceRow


def scene(number: int, size: int = 64) -> Tensor:
    """(12, 3, size, size) uint8: smooth random pictures that drift, others for each number."""
    coarse = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(number))
    wide = interpolate(coarse, size=(size, size + 24), mode="bicubic", align_corners=False).clamp(0, 1)[0] * 255
    return torch.stack([wide[:, :, 2 * step : 2 * step + size] for step in range(12)]).to(torch.uint8)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Five samples on four videos; the names are those of several sources."""
    output = tmp_path_factory.mktemp("shards") / "train"
    names = ["v_abc123", "v_abc123", "video7010", "star/QX1.mp4", "quiet"]

    def samples() -> list[tuple[str, dict[str, bytes]]]:
        samples = []
        for number, name in enumerate(names):
            video = encode_mp4(scene(max(number - 1, 0)), 6.0)
            row = PreferenceRow(f"s{number}", name, "What?", "This.", "That.", probe(video))
            samples.append((row.key, {"mp4": video, "json": json.dumps(row.to_json()).encode()}))
        return samples

    write_shards(samples(), output)
    return f"{output}.index.json"


@pytest.mark.parametrize(
    ("name", "plain"),
    [("v_Abc.mp4", "abc"), ("videos/MSVD/video7010.avi", "video7010"), ("a.b", "a.b"), ("x\\Y.webm", "y")],
)
def test_names_are_compared_without_folder_and_ending(name: str, plain: str) -> None:
    assert plain_id(name) == plain


def test_every_sample_on_a_named_video_is_listed(shards: str) -> None:
    shared = shared_by_id([shards], ["abc123.mp4", "qx1", "unseen"])
    assert [(pair.train.rsplit(" ", 1)[-1], pair.benchmark, pair.by) for pair in shared] == [
        ("s0", "abc123.mp4", "id"),
        ("s1", "abc123.mp4", "id"),
        ("s3", "qx1", "id"),
    ]


def test_frames_agree_through_size_and_compression_and_nothing_else_does(shards: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    smaller = interpolate(scene(1).float(), size=(40, 48), mode="area").round().to(torch.uint8)
    (tmp_path / "deep" / "other name.mp4").write_bytes(encode_mp4(smaller, 25.0))
    (tmp_path / "unrelated.mp4").write_bytes(encode_mp4(scene(17), 6.0))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    lines: list[str] = []
    shared = shared_by_frames([shards], tmp_path, tell=lines.append)
    assert [(pair.train.rsplit(" ", 1)[-1], pair.benchmark, pair.by) for pair in shared] == [
        ("s2", "deep/other name.mp4", "frames")
    ]
    assert shared[0].bits is not None
    assert shared[0].bits <= 8
    assert len(lines) == 1
    assert lines[0].startswith("broken.mp4: undecodable")


def test_every_sample_on_a_video_of_the_same_frames_is_listed(shards: str, tmp_path: Path) -> None:
    (tmp_path / "asked.mp4").write_bytes(encode_mp4(scene(0), 6.0))
    assert [pair.train.rsplit(" ", 1)[-1] for pair in shared_by_frames([shards], tmp_path)] == ["s0", "s1"]


def test_flat_frames_are_like_nothing() -> None:
    flat = torch.zeros(12, 3, 32, 32, dtype=torch.uint8)
    hashes = [video_hash(encode_mp4(frames, 6.0)) for frames in (flat, flat + 200, scene(0))]
    assert np.isinf(hash_distances(hashes[0], hashes)).all()
    assert hash_distances(hashes[2], hashes)[2] == 0
    assert hash_distances(hashes[2], []).shape == (0,)


def test_the_command_lists_both_ways(shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.mp4").write_bytes(encode_mp4(scene(3), 6.0))
    questions = tmp_path / "test_qa.json"
    asked = {"answer": "man", "category_id": 14, "id": 1, "question": "who", "video_id": 7010}
    questions.write_text(json.dumps([asked]))
    shared = prepare_overlap([shards], str(questions), str(tmp_path), str(tmp_path / "list.jsonl"))
    assert [pair.by for pair in shared] == ["id", "frames"]
    shown = capsys.readouterr().out
    assert "s2 and video7010: the same name" in shown
    assert "s4 and one.mp4: the same frames (" in shown
    assert "2 samples share a video with the benchmark" in shown
    lines = (tmp_path / "list.jsonl").read_text().splitlines()
    assert [json.loads(line)["by"] for line in lines] == ["id", "frames"]
    with pytest.raises(ValueError, match="give --questions"):
        prepare_overlap([shards])
    with pytest.raises(ValueError, match="--mapping belongs to --questions"):
        prepare_overlap([shards], videos=str(tmp_path), mapping="youtube_mapping.txt")
    with pytest.raises(ValueError, match="no video in it"):
        prepare_overlap([shards], videos=str(tmp_path / "nowhere"))


class Fit:
    """What the callback asks of a trainer, on one of two ranks; rank 0 leaves in `sent` what it broadcasts."""

    sent: ClassVar[list[Any]] = []

    def __init__(self, index: str, rank: int = 0) -> None:
        self.datamodule = self.strategy = self
        self.paths = {"train": index}
        self.is_global_zero = rank == 0

    def broadcast(self, value: Any) -> Any:
        if self.is_global_zero:
            self.sent.append(value)
        return self.sent[-1]


def start(callback: BenchmarkOverlap, fit: Fit) -> None:
    callback.on_fit_start(fit, LightningModule())  # type: ignore[arg-type]


def test_fit_warns_of_shared_videos_and_only_then(
    shards: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps([{"video": "never.mp4"}]))
    start(BenchmarkOverlap(str(questions)), Fit(shards))
    assert not recwarn.list
    questions.write_text(json.dumps([{"video": "quiet.mp4"}, {"video": "abc123"}]))
    with pytest.warns(UserWarning, match=r"3 training samples show a video of the benchmark.*s0 \(abc123, by id\)"):
        start(BenchmarkOverlap([str(questions)]), Fit(shards))
    (tmp_path / "same.mp4").write_bytes(encode_mp4(scene(1), 6.0))
    with pytest.warns(UserWarning, match=r"1 training samples .*s2 \(same\.mp4, by frames\)"):
        start(BenchmarkOverlap(videos=str(tmp_path)), Fit(shards))
    with pytest.raises(ValueError, match="give questions"):
        BenchmarkOverlap()
    with pytest.raises(ValueError, match="mapping belongs to questions"):
        BenchmarkOverlap(videos=str(tmp_path), mapping="youtube_mapping.txt")


def test_one_rank_compares_and_every_rank_hears_of_a_fault(
    shards: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """A rank that went on alone would wait for the first one's step for ever."""
    lost = BenchmarkOverlap(str(tmp_path / "none.json"))
    for rank in range(2):
        with pytest.raises(ValueError, match=r"none\.json: cannot be read"):
            start(lost, Fit(shards, rank))
    (tmp_path / "questions.json").write_text(json.dumps([{"video": "quiet.mp4"}]))
    callback = BenchmarkOverlap(str(tmp_path / "questions.json"))
    with pytest.warns(UserWarning, match="1 training samples"):
        start(callback, Fit(shards))
    start(callback, Fit("nowhere.index.json", rank=1))
    assert not recwarn.list, "the other rank neither looks nor warns"
