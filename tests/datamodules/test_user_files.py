"""A named pipe in the place of a file is refused with a sentence, wherever a user may name one; nothing waits for it.

Each case would wait for ever; an alarm ends it instead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vidpref
from benchmarks.base.predictions import RecordedFiles
from benchmarks.labelling.label_file import LabelFile
from benchmarks.vbench.observations import read_observations
from benchmarks.vbench.published_files import read_eval_results
from datamodules.csv_table import read_csv
from datamodules.prepare.index import prepare_index
from datamodules.prepare.own_videos import prepare_jsonl
from datamodules.prepare.pair_tables import videodpo_folders
from datamodules.prepare.preferences import prepare_preferences
from datamodules.prompt_file import read_prompts
from datamodules.questions.event_hallusion import read_split
from datamodules.questions.files import read_list
from datamodules.questions.video_hallucer_files import read_annotation
from datamodules.shards.index import Index
from datamodules.user_files import user_file
from lightning_modules.judges.local import LocalJudge
from tests.support.pairs_harness import pairs
from tests.support.paths import ROOT

MESSAGE = "is a named pipe, not a file, and reading it could wait for ever; give a regular file"


class WaitingError(BaseException):
    """No `Exception`, which a read would try again after."""


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    def ring(*arguments: Any) -> None:
        raise WaitingError("something waits for the pipe")

    former = signal.signal(signal.SIGALRM, ring)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


#: A prompt of VBench's list.
LISTED: Any = {"a": SimpleNamespace(entries=[{}])}
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "index": ("train.index.json", Index.read),
    "data": ("train.index.json", lambda path: pairs(path).index("train")),
    "shard": ("train-000000.tar", lambda path: prepare_index([str(path)], str(path.with_name("train.index.json")))),
    "jsonl": ("rows.jsonl", lambda path: prepare_jsonl(path, path.with_name("out"))),
    "preferences": ("rows.json", lambda path: prepare_preferences(str(path), str(path.with_name("out")))),
    "csv": ("labels.csv", lambda path: read_csv(path, "labels")),
    "label file": ("labels.csv", LabelFile),
    "yaml": ("train.yaml", videodpo_folders),
    "prompts": ("prompts.txt", read_prompts),
    "questions": ("questions.json", read_list),
    "hallucer": ("temporal.json", read_annotation),
    "events": ("entire.json", read_split),
    "eval results": ("x_eval_results.json", read_eval_results),
    "observations": ("observations.json", lambda path: read_observations([path], {}, LISTED)),
    "chat template": ("chat.jinja", lambda path: LocalJudge("judge", chat_template=str(path))),
}


@pytest.mark.parametrize("kind", READERS)
def test_every_file_that_a_user_names(tmp_path: Path, kind: str) -> None:
    name, read = READERS[kind]
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} {MESSAGE}"):
        read(tmp_path / name)


def test_a_file_of_predictions_is_listed_as_unreadable(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "predictions.json")
    files = RecordedFiles()
    assert files.content(tmp_path / "predictions.json") is None
    assert MESSAGE in files.unreadable[0]


@pytest.mark.parametrize("flags", [["--config", "run.yaml"], ["--config=run.yaml"]])
def test_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("run.yaml")
    assert vidpref.main(["fit", *flags]) == 1
    assert capsys.readouterr().err.startswith(f"error: run.yaml {MESSAGE}\n")


def test_what_a_shell_opens_for_its_command_is_read(tmp_path: Path) -> None:
    """`<(...)` is a pipe with a writer."""
    code = "import sys; from datamodules.user_files import user_file; print(user_file(sys.argv[1]).read_text())"
    script = f"{sys.executable} -c '{code}' <(echo a red square)"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.strip() == "a red square"


def test_what_is_missing_or_a_folder_is_left_to_the_read(tmp_path: Path) -> None:
    assert user_file(tmp_path) == tmp_path
    assert user_file(tmp_path / "absent") == tmp_path / "absent"
    with pytest.raises(ValueError, match="/dev/zero is a device"):
        user_file("/dev/zero")
