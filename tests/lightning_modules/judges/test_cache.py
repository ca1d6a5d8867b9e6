"""Replies on disk, with several threads and processes at them."""

from __future__ import annotations

import errno
import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_modules.judges.base import JudgeQuestion
from lightning_modules.judges.cache import ReplyCache, request_key
from tests.support.paths import ROOT

KEY = "ab" * 32
#: A process that appends a line to a file each time it has to ask, slowly.
ASKER = """
import sys, time
from lightning_modules.judges.cache import ReplyCache
folder, asked = sys.argv[1:]
def ask():
    with open(asked, "a") as file:
        file.write("x")
    time.sleep(0.2)
    return "said"
print(ReplyCache(folder).reply("ab" * 32, ask)[0])
"""


def never() -> str:
    raise AssertionError("asked twice")


def test_a_reply_is_kept(tmp_path: Path) -> None:
    assert ReplyCache(tmp_path).reply(KEY, lambda: "line\n\u2713") == ("line\n\u2713", True)
    assert ReplyCache(tmp_path).reply(KEY, never) == ("line\n\u2713", False)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{KEY}.json"]


def test_a_failure_leaves_no_reply(tmp_path: Path) -> None:
    def fails() -> str:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        ReplyCache(tmp_path).reply(KEY, fails)
    assert ReplyCache(tmp_path).reply(KEY, lambda: "back") == ("back", True)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"other": 1}', '{"reply": 3}'])
def test_what_a_crash_left_is_asked_again(tmp_path: Path, content: str) -> None:
    path = tmp_path / KEY[:2] / f"{KEY}.json"
    path.parent.mkdir()
    path.write_text(content)
    assert ReplyCache(tmp_path).reply(KEY, lambda: "again") == ("again", True)
    assert ReplyCache(tmp_path).reply(KEY, never) == ("again", False)


def test_threads_with_one_question_ask_once(tmp_path: Path) -> None:
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        return "said"

    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: ReplyCache(tmp_path).reply(KEY, ask)[0], range(64)))
    assert replies == ["said"] * 64
    assert len(asked) == 1


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("lightning_modules.judges.cache.FileLock.acquire", no_locks)
    assert ReplyCache(tmp_path).reply(KEY, lambda: "said") == ("said", True)
    assert ReplyCache(tmp_path).reply(KEY, never) == ("said", False)


def test_the_cache_needs_no_module_of_unix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    path = ROOT / "lightning_modules/judges/cache.py"
    spec = importlib.util.spec_from_file_location("cache_on_windows", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.ReplyCache


@pytest.mark.slow
def test_processes_with_one_question_ask_once(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    command = [sys.executable, "-c", ASKER, str(tmp_path / "cache"), str(asked)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=120)[0] for process in running] == ["said\n"] * 3
    assert asked.read_text() == "x"


def test_the_name_depends_on_all_that_is_told_and_on_nothing_else() -> None:
    frame = torch.arange(48, dtype=torch.uint8).view(3, 4, 4)
    plain = JudgeQuestion("?", [frame], "a")
    name = request_key({"model": "m"}, plain)
    # Another sample, and the same pixels in another layout of memory.
    strided = torch.from_numpy(np.asfortranarray(frame.numpy()))
    assert request_key({"model": "m"}, JudgeQuestion("?", [strided], "b", 3, shown_first="first")) == name
    others = [
        request_key({"model": "n"}, plain),
        request_key({"model": "m"}, JudgeQuestion("??", [frame])),
        request_key({"model": "m"}, JudgeQuestion("?", [frame.view(3, 2, 8)])),
        request_key({"model": "m"}, JudgeQuestion("?", [frame, frame])),
        request_key({"model": "m"}, JudgeQuestion("?", [frame], system="s")),
        request_key({"model": "m"}, JudgeQuestion("?", [frame], attempt=1)),
        request_key({"model": "m"}, JudgeQuestion("?", [frame.numpy().tobytes()])),
    ]
    assert len({name, *others}) == 8
