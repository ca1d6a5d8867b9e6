"""A full disk, a read-only folder, a lack of permission: file, setting, cause and remedy in one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import vidpref
from callbacks.cli.file_errors import file_fault, setting_of

FULL = "the disk is full; free some space there, or choose a folder on another disk"
READ_ONLY = "it is on a read-only file system; choose a folder that can be written"


def system_error(code: int, path: str | None = None) -> OSError:
    return OSError(code, os.strerror(code), path) if path else OSError(code, os.strerror(code))


def test_the_setting_is_named_from_the_command_line_and_from_configurations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("trainer: {default_root_dir: /ro/run}\nmodel: {init_args: {output: /ro/out}}\n")
    arguments = ["--config", "run.yaml", "--data.train", "shards/train.index.json", "--data.side=/ro/run/side"]
    assert setting_of("/ro/run/checkpoints/last.ckpt", arguments) == "trainer.default_root_dir"
    assert setting_of("/ro/run/side/a", arguments) == "data.side"
    assert setting_of("/ro/out/part", arguments) == "model.output"
    assert setting_of("/ro", arguments) in ("trainer.default_root_dir", "model.output", "data.side")
    assert setting_of("shards/train.index.json", arguments) == "data.train"
    assert setting_of("runs/unnamed/fit", []) == "trainer.default_root_dir"
    assert setting_of("/elsewhere/file", arguments) is None
    assert setting_of("/ro/train-000000.tar", ["rows.jsonl", "/ro/train"]) == "the argument '/ro/train'"
    assert setting_of("/ro/.train.lock", ["rows.jsonl", "/ro/train"]) == "the argument '/ro/train'"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EROFS, READ_ONLY),
        (errno.EACCES, "permission denied; change its permissions, or choose another one"),
        (errno.ENOSPC, FULL),
    ],
)
def test_file_setting_cause_and_remedy(code: int, expected: str) -> None:
    error = system_error(code, "/ro/run/log.csv")
    assert file_fault(error, ["--trainer.default_root_dir", "/ro/run"]) == (
        f"/ro/run/log.csv (trainer.default_root_dir): {expected}"
    )


def test_other_errors_stay_as_they_are() -> None:
    assert file_fault(system_error(errno.ENOENT, "x"), []) is None
    assert file_fault(ValueError("bad"), []) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_write_to_a_full_disk_names_the_file_that_is_open() -> None:
    def write() -> None:
        with open("/dev/full", "w") as file:
            file.write("x")
            file.flush()

    with pytest.raises(OSError, match="No space left") as failed:
        write()
    assert failed.value.filename is None
    assert file_fault(failed.value, []) == f"/dev/full: {FULL}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_safetensors_reports_count_too(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"

    def write() -> None:
        save_file({"a": torch.zeros(3)}, str(path))

    path.mkdir()  # it cannot be replaced by a file
    with pytest.raises(Exception, match="os error") as failed:
        write()
    full = type(failed.value)("Error while serializing: I/O error: No space left on device (os error 28)")
    assert file_fault(full.with_traceback(failed.value.__traceback__), []) == f"{path}: {FULL}"


def test_the_command_says_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VIDPREF_DEBUG", raising=False)
    out = str(tmp_path / "set")

    def refuse(self: Path, *args: object, **options: object) -> None:
        raise system_error(errno.EROFS, str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert vidpref.main(["prepare", "toy", out, "--num-videos", "2"]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path} (the argument '{out}'): {READ_ONLY}\n(--debug shows where in the code)\n"
    )
