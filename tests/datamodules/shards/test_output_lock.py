"""Of two writers of one output the second learns who the first is; what a killed one left is taken over."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path

import pytest

from datamodules.prepare.toy_videos import prepare_toy_videos
from datamodules.shards.output_lock import LockedError, OutputLock, locks_output
from tests.support.other_writer import other_writer
from tests.support.paths import ROOT


@pytest.mark.parametrize("is_folder", [False, True])
def test_the_second_writer_is_told_who_the_first_is(tmp_path: Path, is_folder: bool) -> None:
    output = tmp_path / "data/train"
    with other_writer(output, is_folder) as other:
        message = (
            rf"{output} is being written by process {other.pid} on {socket.gethostname()} \(`vidpref fit --config "
            rf"theirs.yaml`, since 20..-..-.. ..:..:...*\)\. Wait for it .*delete {OutputLock(output, is_folder).path}"
        )
        for _ in range(2):  # who is refused leaves the owner's file as it is
            with pytest.raises(LockedError, match=message):
                OutputLock(output, is_folder).acquire()
        with OutputLock(tmp_path / "data/val"):
            assert (tmp_path / "data/.val.lock").exists()


def test_in_order_nothing_is_left(tmp_path: Path) -> None:
    with OutputLock(tmp_path / "new/data/train"), OutputLock(tmp_path / "new/data/train"):
        owner = json.loads((tmp_path / "new/data/.train.lock").read_text())
        assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    with OutputLock(tmp_path / "kept", is_folder=True):
        assert (tmp_path / "kept/.lock").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


def test_what_a_killed_writer_left_is_taken_over_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with other_writer(tmp_path / "train", False) as other:
        pass
    assert (tmp_path / ".train.lock").exists()
    with OutputLock(tmp_path / "train"):
        message = capsys.readouterr().err
        assert f"process {other.pid} on {socket.gethostname()} (`vidpref fit --config theirs.yaml`, since" in message
        assert message.endswith("is gone without having ended in order; taken over\n")
        assert json.loads((tmp_path / ".train.lock").read_text())["pid"] == os.getpid()


def test_the_worker_of_a_killed_writer_holds_no_lock(tmp_path: Path) -> None:
    """It outlives the writer for a moment, until it notices."""
    worker = f"import os\nif os.fork() == 0:\n    time.sleep(5); os.rmdir({str(tmp_path / 'alive')!r}); os._exit(0)"
    (tmp_path / "alive").mkdir()
    with other_writer(tmp_path / "train", False, worker) as other:
        other.kill()
        other.wait()
    with OutputLock(tmp_path / "train"):
        assert (tmp_path / "alive").exists()


def test_a_function_that_writes_shards_holds_their_lock(tmp_path: Path) -> None:
    @locks_output("output")
    def write(number: int, output: str) -> int:
        assert (tmp_path / ".train.lock").exists()
        return number

    output = str(tmp_path / "train")
    assert write(3, output=output) == 3
    with other_writer(tmp_path / "train", False):
        with pytest.raises(LockedError, match="is being written by process"):
            write(3, output)
        with pytest.raises(LockedError, match="is being written by process"):
            prepare_toy_videos(output, "train", num_videos=1)
    assert not (tmp_path / "train.index.json").exists()


def test_no_module_needs_what_only_unix_has() -> None:
    """So that the command also starts on Windows; `filelock` knows each system's locks."""
    folders = ("lightning_modules", "datamodules", "callbacks", "benchmarks")
    files = [ROOT / "vidpref.py", *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    files = [path for path in files if "speed" not in path.parts]  # measures what only Unix counts; no verb imports it
    unix_only = re.compile(r"^\s*(import|from) (fcntl|pwd|grp|termios|resource)\b", re.MULTILINE)
    assert [str(path) for path in files if unix_only.search(path.read_text())] == []
