"""Runs of `predict` for a part of the samples, and their join: the bytes of one run, or a word on what is missing."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lightning.pytorch import LightningModule

from callbacks.writers.base import PredictWriter
from callbacks.writers.join import join_parts
from callbacks.writers.jsonl import JsonlWriter
from callbacks.writers.shards import ShardWriter
from callbacks.writers.video_folder import VideoFolderWriter
from datamodules.prepare.parts import Part
from datamodules.shards.index import Index
from datamodules.stream.predict_outputs import WrittenRow, WrittenSample
from tests.callbacks.writers.test_video_folder_writer import REQUESTS
from tests.support.kills import contents, killed
from tests.support.other_writer import other_writer
from tests.support.predict_fakes import Maker, Requests, Source, VideoMaker, predict
from tests.support.shard_writer_runs import KEYS, names


class WithFacts(Maker):
    """Samples whose facts are in no member, as cached reference scores."""

    def sample(self, key: str) -> WrittenSample:
        sample = super().sample(key)
        return WrittenSample(sample.key, sample.members, {"length": len(key), "share": 1 / 3})


class Rows(Maker):
    """Rows, one of them left out."""

    def sample(self, key: str) -> Any:
        return WrittenRow(key, None if key == "c" else {"text": key}, {"c": str(key == "c")}, "c" if key == "c" else "")


class Damaged(Source):
    """Two samples that cannot be read."""

    bad_samples: ClassVar = {"a": "undecodable", "e": "undecodable"}

    def items(self) -> list[Any]:
        return [key for key in super().items() if key not in self.bad_samples]


def writer_of(output: Path) -> PredictWriter:
    return JsonlWriter(str(output)) if output.suffix == ".jsonl" else ShardWriter(str(output), 2)


def run(output: Path, part: str | None, module: LightningModule | None = None, data: Source | None = None) -> Any:
    writer, module = writer_of(output), module or Maker()
    if part is not None:
        writer.part = Part.parsed(part)
    predict(writer, module, data or Source(KEYS))
    return module


@pytest.mark.parametrize(
    ("name", "module", "source", "count"),
    [
        ("out", Maker, Source, 2),
        ("out", WithFacts, Source, 4),
        ("out", Maker, Damaged, 3),
        ("out", Maker, Source, 8),  # more parts than samples
        ("out.jsonl", Rows, Source, 2),
        ("out.jsonl", Rows, Damaged, 3),
    ],
)
def test_parts_joined_are_the_files_of_one_run(
    name: str, module: Any, source: Any, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    run(whole / name, None, module(), source(KEYS))
    made = [run(parted / name, f"{number}/{count}", module(), source(KEYS)).made for number in range(count, 0, -1)]
    assert sorted(key for keys in made for key in keys) == sorted(source(KEYS).items()), "each once"
    join_parts(str(parted / name))
    assert contents(parted) == contents(whole)
    assert str(parted / name) in capsys.readouterr().out


def test_a_part_goes_on_where_it_stopped_and_makes_no_sample_of_others(tmp_path: Path) -> None:
    first = run(tmp_path / "out", "1/2", Maker(fails_at="c"), Source(KEYS, 1))
    assert first.made == ["b/2", "a"]
    with pytest.raises(ValueError, match=r"there is no finished part of it; `predict \.\.\. --part 1/N` makes one"):
        join_parts(str(tmp_path / "out"))
    assert run(tmp_path / "out", "1/2").made == ["c"]
    assert run(tmp_path / "out", "1/2").made == []
    with pytest.raises(ValueError, match="parts are missing or not finished; run the same command with --part 2/2"):
        join_parts(str(tmp_path / "out"))
    assert run(tmp_path / "out", "2/2").made == KEYS[3:]
    join_parts(str(tmp_path / "out"))
    assert [entry.key for entry in Index.read(tmp_path / "out.index.json").entries] == KEYS
    assert names(tmp_path) == ["out-000000.tar", "out-000001.tar", "out-000002.tar", "out.index.json"]
    assert run(tmp_path / "out", "2/2").made == []


def test_a_run_of_all_takes_what_parts_have_made(tmp_path: Path) -> None:
    run(tmp_path / "whole" / "out", None)
    run(tmp_path / "parted" / "out", "2/3")
    assert run(tmp_path / "parted" / "out", None).made == [*KEYS[:2], *KEYS[4:]]
    assert contents(tmp_path / "parted") == contents(tmp_path / "whole")


def test_parts_say_which_others_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("callbacks.writers.joined.rank_zero_info", said.append)
    for number in (3, 1, 2):
        run(tmp_path / "out", f"{number}/3")
    assert said == [
        "part 3/3 is finished, not yet: 1/3, 2/3",
        "part 1/3 is finished, not yet: 2/3",
        f"all 3 parts are finished; `vidpref prepare join {tmp_path / 'out'}` joins them",
    ]


def test_parts_of_other_settings_samples_or_counts_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "out", "1/2")
    with pytest.raises(ValueError, match="was made with other settings: seed was 0, is 1"):
        run(tmp_path / "out", "2/2", Maker(seed=1))
    run(tmp_path / "out", "2/2", data=Source(KEYS[:4]))
    with pytest.raises(ValueError, match="part 2/2 is of other samples, settings or options than part 1/2"):
        join_parts(str(tmp_path / "out"))
    run(tmp_path / "out", "1/3")
    with pytest.raises(ValueError, match="there are parts of 2 and 3; delete those that are not meant"):
        join_parts(str(tmp_path / "out"))
    (tmp_path / "out.parts/part1of3.json").unlink()
    run(tmp_path / "out", "2/2")
    join_parts(str(tmp_path / "out"))
    assert len(Index.read(tmp_path / "out.index.json")) == len(KEYS)


def test_a_part_whose_samples_were_not_brought_along_is_named(tmp_path: Path) -> None:
    run(tmp_path / "out", "1/2")
    lines = list((tmp_path / "out.parts").glob("*.jsonl"))
    run(tmp_path / "out", "2/2")
    lines[0].unlink()
    with pytest.raises(ValueError, match=r"part 1/2 was finished, but 3 of its samples are not here, the first is"):
        join_parts(str(tmp_path / "out"))
    assert not list(tmp_path.glob("out-*"))


def test_a_part_without_all_its_samples_is_not_finished(tmp_path: Path) -> None:
    writer = ShardWriter(str(tmp_path / "out"))
    writer.part = Part.parsed("1/2")
    with pytest.raises(ValueError, match="part 1/2 is not finished, 1 of 3 samples are not there, the first is 'c'"):
        predict(writer, Maker(), Source(KEYS), limit_predict_batches=1)
    assert not list((tmp_path / "out.parts").glob("part*"))


def test_a_live_part_keeps_the_whole_run_and_the_join_away(tmp_path: Path) -> None:
    run(tmp_path / "out", "1/2")
    run(tmp_path / "out", "2/2")
    with other_writer(tmp_path / "out.part1of2", False):
        with pytest.raises(ValueError, match=r"out\.part1of2 is being written by process"):
            join_parts(str(tmp_path / "out"))
        with pytest.raises(OSError, match=r"out\.part1of2 is being written by process"):
            run(tmp_path / "out", None)
        with pytest.raises(OSError, match=r"out\.part1of2 is being written by process"):
            run(tmp_path / "out", "1/2")
        assert run(tmp_path / "out", "2/2").made == []
    with other_writer(tmp_path / "out", False), pytest.raises(OSError, match=r"out is being written by process"):
        run(tmp_path / "out", "2/2")
    join_parts(str(tmp_path / "out"))


@pytest.mark.slow
def test_a_join_that_is_killed_at_any_moment_is_made_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "whole/out", None, data=Source(KEYS[:2]))
    for number in (1, 2):
        run(tmp_path / "parts/out", f"{number}/2", data=Source(KEYS[:2]))
    moment = 0
    while True:
        moment += 1
        folder = Path(shutil.copytree(tmp_path / "parts", tmp_path / "killed"))
        if not killed(partial(join_parts, str(folder / "out")), moment):
            break
        if (folder / "out.parts").is_dir():
            join_parts(str(folder / "out"))
        assert contents(folder) == contents(tmp_path / "whole"), f"after a kill at change {moment}"
        shutil.rmtree(folder)
    assert moment > 12
    capfd.readouterr()


def videos(folder: Path, part: str | None) -> VideoMaker:
    writer, module = VideoFolderWriter(str(folder)), VideoMaker()
    if part is not None:
        writer.part = Part.parsed(part)
    predict(writer, module, Requests(REQUESTS))
    return module


def test_parts_of_a_folder_of_videos_need_no_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("callbacks.writers.video_folder.rank_zero_info", said.append)
    videos(tmp_path / "whole", None)
    (tmp_path / "parts").mkdir()
    other = tmp_path / "parts" / f".{'0' * 32}.tmp"
    other.write_text("another part writes it now")
    assert videos(tmp_path / "parts", "2/2").made == [request.key for request in REQUESTS[5:]]
    assert videos(tmp_path / "parts", "1/2").made == [request.key for request in REQUESTS[:5]]
    assert other.exists()
    assert said == ["videos of these parts are missing yet: 1/2", "the videos of all 2 parts are there"]
    assert videos(tmp_path / "parts", None).made == []
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_the_parts_of_preparations_are_joined_by_the_same_command(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no finished part of it; `prepare \.\.\. --part 1/N` makes one"):
        join_parts(str(tmp_path / "out"))
