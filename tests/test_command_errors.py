"""What the command says of bad input, before and while it runs, and with which exit status."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from lightning.pytorch import LightningModule

from tests.support import command_fakes
from tests.support.experiment import EXPERIMENT, Run, run

__all__ = ["run"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.betta", "0.3"], "unknown key 'model.betta'"),
        (["--model.betta", "0.3"], "did you mean 'beta'?"),
        (["--model.policy.shape.widht", "3"], "unknown key 'model.policy.shape.widht'"),
        (["--model.optimizer.lrr", "3"], "lrr"),
        (["--trainer.max_step", "3"], "did you mean 'trainer.max_steps'?"),
        (["--model.beta", "much"], "'model.beta': Expected a <class 'float'>. Got value: much"),
        (["--trainer.callbacks+=Throughputt"], "no class is called 'Throughputt'; did you mean 'Throughput'?"),
        (["--config", "absent.yaml"], "absent.yaml"),
    ],
)
def test_bad_flag_is_named(run: Run, capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    assert command_fakes.exit_status(lambda: run("fit", *flags)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("init_args: {train: nothing}", "init_args: {train: x, trian: y}", "unknown key 'data.trian'"),
        ("init_args: {path: nowhere}", "init_args: {path: x, pth: y}", "unknown key 'model.policy.pth'"),
        ("init_args: {lr: 0.01}", "init_args: {lrr: 0.01}", "unknown key 'model.optimizer.lrr'"),
        ("init_args: {train: nothing}", "init_args: {}", "missing 'data.train'"),
        ("max_epochs: 2", "max_epoch: 2", "unknown key 'trainer.max_epoch'"),
        ("ckpt_path: last", "ckpt_pth: last", "unknown key 'ckpt_pth'; did you mean 'ckpt_path'?"),
    ],
)
def test_bad_key_in_a_file_is_named(
    run: Run, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    assert old in EXPERIMENT
    Path("experiment.yaml").write_text(EXPERIMENT.replace(old, new))
    assert command_fakes.exit_status(lambda: run("fit")) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "NoneType" not in shown
    assert "usage:" not in shown


def test_bad_input_ends_with_a_message_and_no_traceback(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "--model.fail_at", "1") == 1
    message = capsys.readouterr().err
    assert "error: sample sample-2 is bad" in message
    assert "Traceback" not in message


def test_a_setting_that_a_class_refuses_is_told_in_one_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "--trainer.callbacks+=Throughput", "--trainer.callbacks.window=0") == 1
    lines = capsys.readouterr().err.partition("error: ")[2].splitlines()
    assert lines[0].startswith("window is 0; give the number of micro-batches")
    assert lines[1:] == ["(--debug shows where in the code)"]


def test_debug_shows_the_traceback(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDPREF_DEBUG", "0")  # restored afterwards: --debug sets it
    assert run("fit", "--model.fail_at", "1", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err
    assert os.environ["VIDPREF_DEBUG"] == "1"


def test_a_fault_of_ours_shows_its_traceback(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_fakes.TinyModule, "training_step", lambda self, batch, batch_idx: 1 / 0 and None)
    assert run("fit") == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_what_a_verb_cannot_do_is_said_before_anything_is_computed(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("predict") == 1
    assert "nothing would write what TinyModule predicts" in capsys.readouterr().err
    monkeypatch.setattr(command_fakes.TinyModule, "test_step", LightningModule.test_step)
    assert run("test", "--ckpt_path", "null") == 1
    assert "TinyModule has nothing to test; `vidpref test` takes a benchmark" in capsys.readouterr().err


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_recovery_checkpoint_that_was_cut_short_is_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], kept: float
) -> None:
    assert run("fit") == 0
    path = Path("run/checkpoints/last.ckpt")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    capsys.readouterr()
    assert run("fit", "--trainer.max_epochs=3") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "last.ckpt: is no whole checkpoint" in line
    assert "give another one by --ckpt_path" in line


def test_a_run_on_a_full_disk_ends_in_one_line_that_names_the_file_and_the_setting(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # another number than a full disk's, the same way
    try:
        assert run("fit") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    error_output = capsys.readouterr().err
    assert "Traceback" not in error_output
    (line,) = [line for line in error_output.splitlines() if line.startswith("error: ")]
    assert "config.yaml (trainer.default_root_dir): the file is larger than is allowed; raise the limit" in line
