"""Whatever a benchmark or its page opens, it closes: after its work, and after an error."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.base.answers import AnswerLog
from benchmarks.labelling import command
from benchmarks.labelling.command import bound_socket, label_pairs
from benchmarks.labelling.label_file import LabelFile
from benchmarks.report.runs import _curves
from datamodules.prepare.judgements import Judgement, Place
from datamodules.shards.output_lock import OutputLock
from tests.support.judged_pairs import write_judged_pairs
from tests.support.open_resources import record_calls, require_closed


@pytest.fixture
def listeners(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Every socket that the page's command bound or tried to bind."""
    return record_calls(monkeypatch, command.socket, "socket")


def is_closed(listener: socket.socket) -> bool:
    return listener.fileno() == -1


@pytest.mark.parametrize("failure", [None, RuntimeError("the server failed")])
def test_the_pages_listener_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listeners: Sequence[socket.socket], failure: Exception | None
) -> None:
    uvicorn = pytest.importorskip("uvicorn")
    served: list[bool] = []

    def run(server: Any, sockets: Sequence[socket.socket]) -> None:
        served.append(is_closed(sockets[0]))
        if failure is not None:
            raise failure

    monkeypatch.setattr(uvicorn.Server, "run", run)
    pairs, output = write_judged_pairs(tmp_path, count=1), tmp_path / "labels.csv"
    if failure is None:
        label_pairs(pairs, str(output), port=0, open_browser=False)
    else:
        with pytest.raises(RuntimeError, match="the server failed"):
            label_pairs(pairs, str(output), port=0, open_browser=False)
    assert served == [False], "it is open while the page is served"
    assert [is_closed(listener) for listener in listeners] == [True]
    with OutputLock(output):
        pass  # nor is the file's lock held any longer


def test_a_listener_that_found_no_port_is_closed(
    monkeypatch: pytest.MonkeyPatch, listeners: Sequence[socket.socket]
) -> None:
    monkeypatch.setattr(command, "_PORTS", 1)
    with bound_socket("127.0.0.1", 0) as taken, pytest.raises(ValueError, match="are all in use"):
        bound_socket("127.0.0.1", taken.getsockname()[1])
    assert [is_closed(listener) for listener in listeners] == [True, True]


def test_the_file_of_labels_is_closed_after_each_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = LabelFile(tmp_path / "labels.csv")
    files = record_calls(monkeypatch, io, "open")
    labels.write(Judgement(0, Place("a", 0), 1, "ann", "first", "", 0))
    require_closed(files, 1)

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        labels.write(Judgement(0, Place("a", 1), 1, "ann", "first", "", 0))
    require_closed(files, 2)


def test_the_file_of_answers_is_closed_after_each_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning does not say to a module that a run has failed, so nothing may stay open between two batches."""
    files = record_calls(monkeypatch, io, "open")
    log = AnswerLog(tmp_path)
    for key in "ab":
        log.append(0, [{"key": key, "asked": "", "predict": "yes"}])
    require_closed(files, 2)
    assert log.read() == {key: {"asked": "", "predict": "yes"} for key in "ab"}


def test_the_table_of_metrics_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metrics.csv").write_text("step,train/loss\n0,1.5\n")
    files = record_calls(monkeypatch, io, "open")
    assert list(_curves([tmp_path / "metrics.csv"])) == ["total"]
    require_closed(files, 2)
