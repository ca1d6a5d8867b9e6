"""Killed before any fsync, rename or removal, the same command again leaves the bytes of a run that nobody killed.

`make test-crash` tries every point of every command; the ordinary slow tests a share of them, drawn by a fixed seed and
cut where the time is over. Both say how many they tried, of how many.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crash_runs import KILLED, Forks
from tests.support.crash_world import COMMANDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
#: Points of each command in the share, and the seconds that all commands may take, unbroken runs included: the last
#: point that is begun ends within eight minutes.
SHARE, SECONDS = 8, 420.0
EVERY_POINT = os.environ.get("VIDPREF_CRASH_POINTS") == "all"


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


def files(folder: Path, skips: tuple[str, ...]) -> dict[str, bytes]:
    """Everything in ``out``, hidden files too, but for what says when a run was."""
    paths = ((path.relative_to(folder / "out"), path) for path in sorted((folder / "out").rglob("*")))
    return {
        str(name): path.read_bytes()
        for name, path in paths
        if path.is_file() and name.parts[0] not in skips and name.name not in skips
    }


@pytest.fixture(scope="module")
def started() -> float:
    """When the first of the commands began."""
    return time.monotonic()


def points(count: int, name: str, until: float) -> Iterator[int]:
    """Points of a command by a fixed seed, the share of them until a moment; or all in order."""
    every = range(1, count + 1)
    if EVERY_POINT:
        yield from every
        return
    for number, point in enumerate(random.Random(name).sample(every, min(SHARE, count))):
        if number and time.monotonic() > until:
            return
        yield point


def test_the_share_is_drawn_by_a_seed_and_cut_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_crash_points.EVERY_POINT", False)
    share = list(points(40, "fit", time.monotonic() + 60))
    assert len(set(share)) == SHARE
    assert set(share) <= set(range(1, 41))
    assert list(points(40, "fit", time.monotonic() + 60)) == share
    assert list(points(40, "fit", time.monotonic() - 1)) == share[:1], "one at least, however slow the machine is"
    assert sorted(points(3, "fit", time.monotonic() + 60)) == [1, 2, 3]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_killed_at_any_point_the_same_command_goes_on(
    name: str, forks: Forks, started: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began, place = time.monotonic(), list(COMMANDS).index(name)
    # What a command leaves of its part of the time is for those after it.
    until = began + (started + SECONDS - began) / (len(COMMANDS) - place)
    command, inputs = COMMANDS[name], tmp_path / "inputs"
    inputs.mkdir()
    command.prepare(inputs)
    whole = Path(shutil.copytree(inputs, tmp_path / "whole"))
    status, count, output = forks.run(whole, command.arguments)
    assert status == 0, output
    assert count > 0
    expected = files(whole, command.skips)
    assert expected
    failed, tried = [], 0
    for point in points(count, name, until):
        tried += 1
        folder = Path(shutil.copytree(inputs, tmp_path / "killed"))
        status, _, _ = forks.run(folder, command.arguments, ends_at=point)
        assert status == KILLED
        status, _, output = forks.run(folder, command.arguments)
        contents = files(folder, command.skips)
        finished = bool(command.refusal) and command.refusal in output and contents == expected
        if status != 0 and not finished:
            failed.append(f"point {point} of {count}: status {status}: {output[-400:]}")
        elif contents != expected:
            differ = sorted(
                name for name in contents.keys() | expected.keys() if contents.get(name) != expected.get(name)
            )
            failed.append(f"point {point} of {count}: other bytes: {', '.join(differ)}")
        shutil.rmtree(folder)
    with capsys.disabled():
        print(f"{name}: killed at {tried} of {count} points, {time.monotonic() - began:.0f} s")
    assert failed == []
