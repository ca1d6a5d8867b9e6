"""Killed before any fsync, rename or removal, the same command again leaves the bytes of a run that nobody killed.

`make test-crash` tries every point of every command; the ordinary slow tests a share of them, drawn by a fixed seed.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crash_runs import KILLED, Forks
from tests.support.crash_world import COMMANDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
#: Points of each command in the share: together with the unbroken runs at most eight minutes.
SHARE = 4
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


def points(count: int, name: str) -> list[int]:
    every = list(range(1, count + 1))
    return every if EVERY_POINT else sorted(random.Random(name).sample(every, min(SHARE, count)))


@pytest.mark.parametrize("name", list(COMMANDS))
def test_killed_at_any_point_the_same_command_goes_on(name: str, forks: Forks, tmp_path: Path) -> None:
    command, inputs = COMMANDS[name], tmp_path / "inputs"
    inputs.mkdir()
    command.prepare(inputs)
    whole = Path(shutil.copytree(inputs, tmp_path / "whole"))
    status, count, said = forks.run(whole, command.arguments)
    assert status == 0, said
    assert count > 0
    expected = files(whole, command.skips)
    assert expected
    failed = []
    for point in points(count, name):
        folder = Path(shutil.copytree(inputs, tmp_path / "killed"))
        status, _, _ = forks.run(folder, command.arguments, ends_at=point)
        assert status == KILLED
        status, _, said = forks.run(folder, command.arguments)
        found = files(folder, command.skips)
        finished = bool(command.refusal) and command.refusal in said and found == expected
        if status != 0 and not finished:
            failed.append(f"point {point} of {count}: status {status}: {said[-400:]}")
        elif found != expected:
            differ = sorted(one for one in found.keys() | expected.keys() if found.get(one) != expected.get(one))
            failed.append(f"point {point} of {count}: other bytes: {', '.join(differ)}")
        shutil.rmtree(folder)
    assert failed == []
