"""A stage is done while its command, what it read and what it wrote are as they were."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from callbacks.cli.recipes import records
from callbacks.cli.recipes.records import Record, fingerprint, new_record, set_aside, why_unfinished
from callbacks.cli.recipes.stage import Stage

FIT = Stage("fit", ["fit", "--config", "fit.yaml", "--model.beta", "500"], ["data"], ["run"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.index.json").write_text("{}")
    (tmp_path / "fit.yaml").write_text("model: x")
    (tmp_path / "run").mkdir()
    return tmp_path


def finished(stage: Stage, folder: Path) -> Record:
    return new_record(stage, folder, None).ended_now(1.0, finished=True)


def test_a_stage_is_done_until_something_changes(folder: Path) -> None:
    assert why_unfinished(FIT, folder, None) == "not run yet"
    record = finished(FIT, folder)
    assert why_unfinished(FIT, folder, record) == ""
    other = Stage("fit", ["fit", "--config", "fit.yaml", "--model.beta", "250"], ["data"], ["run"])
    assert why_unfinished(other, folder, record) == "its command has changed (--model.beta 500 -> 250)"
    more = replace(FIT, command=[*FIT.command, "--seed", "500"])
    assert why_unfinished(more, folder, record) == "its command has changed (-> --seed 500)"
    (folder / "fit.yaml").write_text("model: y")
    assert why_unfinished(FIT, folder, record) == f"{folder / 'fit.yaml'} has changed"
    (folder / "fit.yaml").write_text("model: x")
    assert why_unfinished(FIT, folder, record) == "", "the same content again"
    (folder / "data" / "train.index.json").write_text("{} ")
    assert why_unfinished(FIT, folder, record) == f"{folder / 'data'} has changed"


def test_other_devices_leave_a_stage_done(folder: Path) -> None:
    record = finished(FIT, folder)
    assert why_unfinished(replace(FIT, devices=["--trainer.devices", "8"]), folder, record) == ""


def test_a_stage_without_its_output_is_not_done(folder: Path) -> None:
    record = finished(FIT, folder)
    (folder / "run").rmdir()
    assert why_unfinished(FIT, folder, record) == f"{folder / 'run'} is gone"


def test_an_interrupted_stage_is_not_done(folder: Path) -> None:
    begun = new_record(FIT, folder, None)
    assert why_unfinished(FIT, folder, begun) == "interrupted"
    assert why_unfinished(FIT, folder, begun.ended_now(3.0, finished=False)) == "interrupted"


def test_a_prepare_that_was_killed_after_its_index_is_done(folder: Path) -> None:
    index, text = Path("data/train.index.json"), Path("data/train.txt")
    prepare = Stage("p", ["prepare", "videos"], writes=[index])
    assert why_unfinished(prepare, folder, new_record(prepare, folder, None)) == ""
    both = Stage("p", ["prepare", "videos"], writes=[index, text])
    assert why_unfinished(both, folder, new_record(both, folder, None)) == "interrupted"
    predict = Stage("p", ["predict"], writes=[index])
    assert why_unfinished(predict, folder, new_record(predict, folder, None)) == "interrupted"


def test_seconds_of_stopped_attempts_are_summed_until_the_command_changes(folder: Path) -> None:
    stopped = new_record(FIT, folder, None).ended_now(3.0, finished=False)
    assert new_record(FIT, folder, stopped).ended_now(4.0, finished=True).seconds == 7.0
    other = Stage("fit", ["fit"])
    assert new_record(other, folder, stopped).seconds == 0.0
    assert new_record(FIT, folder, finished(FIT, folder)).seconds == 0.0


def test_a_record_is_read_as_it_was_written_and_another_file_is_none(folder: Path) -> None:
    record = finished(FIT, folder)
    record.write(folder / "stages" / "fit.json")
    assert Record.read(folder / "stages" / "fit.json") == record
    assert Record.read(folder / "stages" / "other.json") is None
    for content in ("", "[]", '{"order": 1}'):
        (folder / "stages" / "fit.json").write_text(content)
        assert Record.read(folder / "stages" / "fit.json") is None


def test_a_large_file_counts_by_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_READ_BYTES", 3)
    path = tmp_path / "weights"
    path.write_bytes(b"1234")
    os.utime(path, ns=(1, 1))
    before = fingerprint(path)
    path.write_bytes(b"4321")
    os.utime(path, ns=(1, 1))
    assert fingerprint(path) == before
    os.utime(path, ns=(2, 2))
    assert fingerprint(path) != before


def test_hidden_files_of_a_folder_do_not_count(folder: Path) -> None:
    before = fingerprint(folder / "data")
    (folder / "data" / ".lock").touch()
    (folder / "data" / ".cache").mkdir()
    (folder / "data" / ".cache" / "x").touch()
    assert fingerprint(folder / "data") == before
    (folder / "data" / "sub").mkdir()
    (folder / "data" / "sub" / "x").touch()
    assert fingerprint(folder / "data") != before
    assert fingerprint(folder / "nothing") == ""


def test_what_a_stage_wrote_is_set_aside_with_its_shards(tmp_path: Path) -> None:
    names = ["train.index.json", "train-000000.tar", "train-000001.tar", "train-val-000000.tar", "train.txt"]
    names += ["train.index-0123456789ab.arrow", "train-val.index-0123456789ab.arrow"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "train.parts").mkdir()
    stage = Stage("pairs", ["predict"], writes=["train.index.json"])
    set_aside(stage, tmp_path)
    kept = {"train-val-000000.tar", "train.txt", "train-val.index-0123456789ab.arrow"}
    assert {path.name for path in tmp_path.iterdir()} == kept | {
        f"{name}.former-1" for name in [*names, "train.parts"] if name not in kept
    }
    (tmp_path / "train.index.json").write_text("new")
    moved = set_aside(stage, tmp_path)
    assert moved == [(tmp_path / "train.index.json", tmp_path / "train.index.json.former-2")]
    assert (tmp_path / "train.index.json.former-1").read_text() == "train.index.json"
    assert set_aside(stage, tmp_path) == []
