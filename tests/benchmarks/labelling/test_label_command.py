"""`vidpref label` as a person starts it: the port, the lock, what is missing, and how it ends."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import vidpref
from benchmarks.labelling import command
from benchmarks.labelling.command import bound_socket
from datamodules.shards.output_lock import OutputLock
from tests.support.flow_shards import write_latents
from tests.support.judged_pairs import write_judged_pairs
from tests.support.labelling import TOKEN, label_server
from tests.support.paths import ROOT

pytest.importorskip("uvicorn")


def test_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        vidpref.main(["label", "--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Open a page on which people say which video of a pair is better" in shown
    assert "the share of questions that is asked twice" in shown


def test_a_port_in_use_gives_the_next_one() -> None:
    with bound_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bound_socket("127.0.0.1", port) as second:
            assert port < second.getsockname()[1] <= port + 49


def test_ports_that_are_all_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PORTS", 1)
    with bound_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"ports {port} to {port} are all in use; give another --port"):
            bound_socket("127.0.0.1", port)


def label(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The message of a command that fails at once."""
    assert vidpref.main(["label", *flags, "--output", str(folder / "labels.csv")]) == 1
    return capsys.readouterr().err.splitlines()[0]


def test_the_extra_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    assert label(tmp_path, capsys, "pairs.index.json") == (
        "error: the labelling page needs uvicorn: pip install -c constraints.txt -e '.[label]'"
    )


def test_settings_and_pairs_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = write_judged_pairs(tmp_path, count=1)
    assert "no such index" in label(tmp_path, capsys, str(tmp_path / "none.index.json"))
    latents = write_latents(tmp_path, 1)
    assert "schema 'vidpref/latents', expected vidpref/pairs" in label(tmp_path, capsys, latents)
    assert "port is 70000" in label(tmp_path, capsys, pairs, "--port", "70000")
    assert "token: give 8 or more letters" in label(tmp_path, capsys, pairs, "--token", "a/b")
    assert "labels of other pairs" in label(tmp_path, capsys, pairs, "--judges", other_labels(tmp_path))
    assert not (tmp_path / "labels.csv").exists()


def other_labels(folder: Path) -> str:
    from tests.support.flow_shards import write_labels, write_pairs

    return write_labels(write_pairs(folder / "other", 2))


def test_one_page_for_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = (
        "import sys, time; from datamodules.shards.output_lock import OutputLock\n"
        "OutputLock(sys.argv[1]).acquire(); print('locked', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-c", script, str(tmp_path / "labels.csv")]
    other = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        message = label(tmp_path, capsys, write_judged_pairs(tmp_path, count=1))
        assert "labels.csv is being written by process" in message
    finally:
        other.kill()
        other.wait()
    OutputLock(tmp_path / "labels.csv").acquire()


@pytest.mark.slow
def test_from_start_to_ctrl_c(tmp_path: Path) -> None:
    write_judged_pairs(tmp_path, count=2)
    (tmp_path / "labels.csv").write_text("key,segment,label,annotator\np00,0,first,ann\np00,1,tie,a")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with label_server(tmp_path, "pairs.index.json", "--port", str(port)) as server:
            assert int(server.port) > port
            with urllib.request.urlopen(server.address) as page:  # noqa: S310 of this machine
                assert b"Which video is better?" in page.read()
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(server.address.replace(TOKEN, "another-word"))  # noqa: S310 of this machine
            printed = server.interrupt()
            assert server.process.returncode == 0
    assert f"port {port} is in use; taken instead: {server.port}" in printed
    assert "2 pairs; answers go to labels.csv" in printed
    assert "labels.csv: 1 answers by ann, 1 answers by a" in printed
    assert "vidpref prepare labels labels.csv pairs.index.json labels --incomplete skip" in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_without_a_token_a_new_one_is_drawn_each_time(tmp_path: Path) -> None:
    write_judged_pairs(tmp_path, count=1)
    addresses: set[Any] = set()
    for _ in range(2):
        with label_server(tmp_path, "pairs.index.json", token=None) as server:
            addresses.add(server.address.split("/")[3])
            server.process.send_signal(signal.SIGINT)
    assert len(addresses) == 2
    assert min(map(len, addresses)) >= 20


def test_the_pages_files_are_packaged() -> None:
    """What `pyproject.toml` names is what the page needs: a file of a new kind would be missing elsewhere."""
    benchmarks = ROOT / "benchmarks"
    globs = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["benchmarks"]
    packaged = {file for pattern in globs for file in benchmarks.glob(pattern)}
    files = {file for file in (benchmarks / "labelling/static").rglob("*") if file.is_file()}
    assert len(files) > 10
    assert files <= packaged
