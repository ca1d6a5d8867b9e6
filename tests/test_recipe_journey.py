"""DenseDPO's whole way as a recipe, from real videos to a report: killed in every stage, it comes to the same end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from callbacks.cli.recipes.records import Record
from tests.support.kills import contents
from tests.support.paths import DATA, ROOT
from tests.support.tiny_wan import write_tiny_wan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(sys.platform != "linux", reason="finds a recipe's stages in /proc"),
]
#: Written while a run lasts, and different in each: logs, records, checkpoints, replies, and what says when it was.
TRANSIENT = ("logs", "stages", "checkpoints", "fit", "predict", "replies.jsonl")


def start(folder: Path) -> subprocess.Popen[str]:
    recipe = str(DATA / "recipes" / "dense_journey.yaml")
    return subprocess.Popen(
        [sys.executable, "-m", "vidpref", "run", recipe, "--set", f"root={ROOT}"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def inputs(folder: Path) -> Path:
    folder.mkdir()
    write_tiny_wan(folder / "tiny")
    for path in (folder / "tiny").rglob("*"):
        os.utime(path, (0, 0))  # made twice, and the same
    (folder / "prompts.txt").write_text("a ball rolls\na cube falls\n")
    return folder


def kill(runner: subprocess.Popen[str]) -> None:
    """Kill a recipe and its stage, as when the machine goes down."""
    children = Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text().split()
    runner.kill()
    for child in children:
        with suppress(ProcessLookupError):
            os.killpg(int(child), signal.SIGKILL)
    runner.communicate()


def has(folder: Path, pattern: str) -> Callable[[], bool]:
    return lambda: any(folder.glob(pattern))


def results(folder: Path) -> dict[str, object]:
    """What came out, but for what says when it was, and for the order of metadata in an adapter's file."""
    kept = {name: content for name, content in contents(folder).items() if not any(part in name for part in TRANSIENT)}
    return {name: comparable(name, content) for name, content in kept.items()}


def comparable(name: str, content: bytes) -> object:
    if name.endswith(".safetensors"):  # which writes its metadata in any order
        begin = 8 + int.from_bytes(content[:8], "little")
        return json.loads(content[8:begin]), content[begin:]
    if name.endswith("exports/last/README.md"):
        return [line for line in content.splitlines() if b"second" not in line]  # speeds
    if name == "samples/manifest.json":  # the mark of the adapter's bytes
        return re.sub(rb'"adapter": "\w{32}"', b"", content)
    return content


def test_killed_in_every_stage_a_recipe_comes_to_the_same_end(tmp_path: Path) -> None:
    whole = inputs(tmp_path / "whole")
    unbroken = start(whole)
    said, _ = unbroken.communicate()
    assert unbroken.returncode == 0, said
    expected = results(whole / "out")
    assert {"videos.index.json", "pairs-1.index.json", "labels-1.index.json", "report.md"} <= set(expected)
    assert any(name.startswith("dense-1/exports/last/") for name in expected)
    assert sum(name.endswith(".mp4") for name in expected) == 4
    assert "8 labels: 0 for" not in (whole / "out/logs/labels-1.log").read_text(), "something to learn from"

    broken = inputs(tmp_path / "broken")
    out = broken / "out"
    # When a stage is in the midst of its work.
    moments = {
        "videos": has(out, "logs/videos.log"),
        "pairs-1": has(out, "pairs-1.parts/*.jsonl"),
        "labels-1": has(out, "labels-1.parts/settings.json"),
        "fit-1": has(out, "dense-1/checkpoints/last.ckpt"),
        "sample": has(out, "samples/*.mp4"),
        "report": has(out, "logs/report.log"),
    }
    for stage, moment in moments.items():
        runner = start(broken)
        while not moment():
            assert runner.poll() is None, f"{stage} was not reached:\n{runner.communicate()[0]}"
            time.sleep(0.02)
        kill(runner)
        record = Record.read(out / "stages" / f"{stage}.json")
        assert record is not None, stage
        assert not record.finished, f"{stage} was over before it was killed"
    last = start(broken)
    said, _ = last.communicate()
    assert last.returncode == 0, said
    assert said.count("done before") == len(moments) - 1
    assert "report: interrupted; run again" in said
    assert results(out) == expected
