"""Preparation in several processes, stopped and continued: the same files, and nothing done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datamodules.prepare import checked_mp4s, clip_cutter, pair_cutter, workers
from datamodules.prepare.kept_results import KeptResults, Result
from datamodules.prepare.own_videos import prepare_jsonl
from datamodules.prepare.pairs import prepare_pairs
from datamodules.prepare.video_filters import Cuts, Motion
from datamodules.prepare.videos import prepare_videos
from datamodules.prepare.vistadpo import prepare_vistadpo
from datamodules.prepare.workers import Workers
from datamodules.video.codec import encode_mp4, probe
from datamodules.video.facts import VideoFacts
from tests.support.annotated_videos import numbered_video
from tests.support.kills import contents
from tests.support.moving_clips import sliding
from tests.support.paths import ROOT

SHAPE: dict[str, Any] = {"num_frames": 5, "fps": 8.0, "height": 32, "width": 48, "samples_per_shard": 2}


@dataclass(frozen=True)
class Number:
    """A task: a number to be squared."""

    value: int
    identity: str | None = None


def squared(task: Number) -> Result:
    """Small numbers take long, so that they are finished last."""
    time.sleep(0.2 if task.value == 0 else 0.0)
    if task.value == 13:
        raise ValueError("13 has no square")
    if task.value == 66:
        os.kill(os.getpid(), signal.SIGKILL)
    return Result(task.value**2, {"pid": str(os.getpid()).encode()})


def squares(values: list[int], folder: Path, count: int) -> list[Result]:
    with Workers(squared, KeptResults(folder), count) as processes:
        return list(processes.results(Number(value, f"square of {value}") for value in values))


@pytest.mark.slow
def test_results_of_several_processes_come_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = squares(list(range(10)), tmp_path / "kept", 2)
    assert [result.facts for result in results] == [value**2 for value in range(10)]
    assert str(os.getpid()).encode() not in {result.members["pid"] for result in results}
    assert squares(list(range(10)), tmp_path / "kept", 2) == results  # of the same processes: nothing was done again
    assert "10 results of an earlier run that was stopped were used" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_what_is_finished_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ChildProcessError, match=r"one of the 2 worker processes was killed.*with fewer --workers"):
        squares([1, 2, 3, 66, 4], tmp_path / "kept", 2)
    assert KeptResults(tmp_path / "kept").load("square of 1") is not None
    with pytest.raises(ValueError, match="13 has no square"):
        squares([1, 13], tmp_path / "kept", 2)
    capsys.readouterr()


@pytest.mark.slow
def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from tests.datamodules.prepare.test_workers import squares, Number, squared
from datamodules.prepare.kept_results import KeptResults
from datamodules.prepare.workers import Workers
if __name__ == "__main__":
    with Workers(squared, KeptResults(Path({str(tmp_path / "kept")!r})), 2) as processes:
        results = processes.results(Number(value) for value in range(1, 30))
        print(next(results).members["pid"].decode(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "main.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")], capture_output=True, text=True, env=environment, timeout=120
    )  # whoever holds its output would keep this waiting
    assert run.returncode == -signal.SIGKILL, run.stderr
    worker = int(run.stdout)
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()


def test_one_process_makes_results_one_after_the_other(tmp_path: Path) -> None:
    taken: list[int] = []

    def tasks() -> Iterator[Number]:
        for value in range(3):
            taken.append(value)
            yield Number(value)

    with Workers(squared, KeptResults(tmp_path / "kept"), 1) as processes:
        results = processes.results(tasks())
        assert next(results).facts == 0
        assert taken == [0]
        assert [result.facts for result in results] == [1, 4]
    assert not (tmp_path / "kept").exists()  # without an identity nothing is kept
    with pytest.raises(ValueError, match="workers is 0; give 1 or more"):
        Workers(squared, KeptResults(tmp_path), 0)


def test_other_processes_start_by_themselves_when_the_work_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled: list[int] = []

    def pool(self: Any, tasks: Iterator[Number], pickled: bytes) -> Iterator[Result]:
        for task in tasks:
            pooled.append(task.value)
            yield squared(task)

    monkeypatch.setattr(Workers, "_from_pool", pool)
    monkeypatch.setattr(workers, "free_cores", lambda: 4)
    monkeypatch.setattr(workers, "PATIENCE_S", 0.1)
    with Workers(squared, KeptResults(tmp_path)) as processes:
        assert [result.facts for result in processes.results(map(Number, range(4)))] == [0, 1, 4, 9]
    assert pooled == [1, 2, 3]  # the first one took 0.2 s


def test_free_cores_are_those_that_nobody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    for load, cores in ((0.2, 16), (5.7, 10), (40.0, 1)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert workers.free_cores() == cores


@pytest.mark.parametrize("damage", [lambda content: content[:-30], lambda content: b""])
def test_a_damaged_result_is_none(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    kept = KeptResults(tmp_path / "kept")
    kept.store("a", Result({"faults": ["é"]}, {"0.mp4": b"video", "1.mp4": b""}))
    assert kept.load("a") == Result({"faults": ["é"]}, {"0.mp4": b"video", "1.mp4": b""})
    assert kept.load("b") is None
    (file,) = (tmp_path / "kept").iterdir()
    content = file.read_bytes()
    file.write_bytes(content.replace(b"video", b"vidEo"))
    assert kept.load("a") is None
    file.write_bytes(damage(content))
    assert kept.load("a") is None


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Six videos; one has a cut, one does not move."""
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(6):
        (folder / f"v{number}.mp4").write_bytes(encode_mp4(sliding(0 if number == 4 else 2, count=9 + number), 8))
        (folder / f"v{number}.txt").write_text(f"Film {number}.")
    (folder / "v2.mp4").write_bytes(numbered_video(2, 8))
    return folder


def prepared(films: Path, output: Path, **options: Any) -> dict[str, bytes]:
    filters = [Motion(), Cuts()]
    prepare_videos([str(films)], str(output / "train"), filters=filters, clips_per_video=2, **{**SHAPE, **options})
    return contents(output)


@pytest.mark.slow
def test_one_process_and_four_write_the_same_files(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = prepared(films, tmp_path / "one", workers=1)
    assert prepared(films, tmp_path / "four", workers=4) == one
    assert {"train-000000.tar", "train-000001.tar", "train.report.jsonl", "train.index.json"} <= one.keys()
    capsys.readouterr()


@pytest.mark.slow
def test_faults_are_the_same_from_one_process_and_four(films: Path, tmp_path: Path) -> None:
    for name in ("v1", "v4"):
        content = (films / f"{name}.mp4").read_bytes()
        (films / f"{name}.mp4").write_bytes(content[: len(content) // 2])
    messages = []
    for count in (1, 4):
        with pytest.raises(ValueError, match="2 of 6 rows are bad, nothing was written") as caught:
            prepared(films, tmp_path / "out", workers=count)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert not list((tmp_path / "out").glob("train*"))


def test_a_stopped_run_continues_with_the_clips_that_are_finished(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = prepared(films, tmp_path / "whole", workers=1)
    cut, seen = clip_cutter.ClipCutter.__call__, []
    limit = 3

    def stopping(self: Any, task: Any) -> Result:
        if len(seen) == limit:
            raise KeyboardInterrupt
        seen.append(task.trial.video)
        return cut(self, task)

    monkeypatch.setattr(clip_cutter.ClipCutter, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepared(films, tmp_path / "out", workers=1)
    assert not list((tmp_path / "out").glob("train*"))
    assert seen == ["v0.mp4", "v1.mp4", "v2.mp4"]
    seen.clear()
    limit = 100
    os.utime(films / "v1.mp4", ns=(1, 1))  # another file, for all that is known
    assert prepared(films, tmp_path / "out", workers=1) == expected
    assert seen == ["v1.mp4", "v3.mp4", "v4.mp4", "v5.mp4"]
    assert "2 results of an earlier run that was stopped were used" in capsys.readouterr().out


@pytest.mark.slow
def test_rows_give_the_same_files_from_one_process_and_two(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotated = [{"video": f"v{place % 6}.mp4", "question": f"{place}?"} for place in range(9)]
    (films / "rows.jsonl").write_text(
        "".join(json.dumps({**row, "chosen": "Red.", "rejected": "Blue."}) + "\n" for row in annotated)
    )
    (films / "pairs.csv").write_text("a,b,prompt\nv0.mp4,v1.mp4,A.\nv3.mp4,v1.mp4,A.\nv4.mp4,v5.mp4,B.\n")
    frames = tmp_path / "frames"
    released = [{"video": f"f{place}", "prompt": "What?", "chosen": "A.", "rejected": "B."} for place in range(5)]
    (tmp_path / "released.jsonl").write_text("".join(json.dumps(row) + "\n" for row in released))
    for place in range(5):
        (frames / f"f{place}").mkdir(parents=True)
        for number in range(3):
            cv2.imwrite(str(frames / f"f{place}/{number}.png"), np.full((24, 32, 3), 20 * number + place, np.uint8))
    (frames / "f3/1.png").write_bytes(b"no picture")
    for count in (1, 2):
        output = tmp_path / str(count)
        prepare_jsonl(films / "rows.jsonl", output / "own", workers=count, samples_per_shard=4)
        table = tmp_path / "released.jsonl"
        prepare_vistadpo(table, frames, output / "released", skip_bad=True, workers=count, samples_per_shard=2)
        columns: dict[str, Any] = {"first_column": "a", "second_column": "b", "prompt_column": "prompt"}
        prepare_pairs(films / "pairs.csv", output / "pairs", workers=count, samples_per_shard=2, **columns)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    names = {"own-000002.tar", "released-000001.tar", "released.skipped.jsonl", "pairs-000001.tar"}
    assert names <= contents(tmp_path / "1").keys()
    capsys.readouterr()


def test_a_stopped_run_of_pairs_continues(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (films / "pairs.csv").write_text("a,b,prompt\nv0.mp4,v1.mp4,A.\nv3.mp4,v1.mp4,A.\nv4.mp4,v5.mp4,B.\n")
    columns: dict[str, Any] = {"first_column": "a", "second_column": "b", "prompt_column": "prompt", "workers": 1}
    cut, seen = pair_cutter.PairCutter.__call__, []

    def stopping(self: Any, task: Any) -> Result:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(task.videos)
        return cut(self, task)

    monkeypatch.setattr(pair_cutter.PairCutter, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepare_pairs(films / "pairs.csv", tmp_path / "out/train", **columns)
    seen.clear()
    prepare_pairs(films / "pairs.csv", tmp_path / "out/train", **columns)
    assert seen == [["v4.mp4", "v5.mp4"]]
    assert sorted(contents(tmp_path / "out")) == ["train-000000.tar", "train.index.json"]
    capsys.readouterr()


def test_a_stopped_check_of_rows_continues(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"video": f"v{place}.mp4", "question": "?", "chosen": "Red.", "rejected": "Blue."} for place in range(4)]
    (films / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    looked: list[str] = []

    def counted(path: Path, **options: bool) -> VideoFacts:
        if len(looked) == 3:
            raise KeyboardInterrupt
        looked.append(path.name)
        return probe(path, **options)

    monkeypatch.setattr(checked_mp4s, "probe", counted)
    with pytest.raises(KeyboardInterrupt):
        prepare_jsonl(films / "rows.jsonl", tmp_path / "out/train", workers=1)
    looked.clear()
    prepare_jsonl(films / "rows.jsonl", tmp_path / "out/train", workers=1)
    assert looked == ["v3.mp4"]
    assert sorted(contents(tmp_path / "out")) == ["train-000000.tar", "train.index.json"]
    capsys.readouterr()
