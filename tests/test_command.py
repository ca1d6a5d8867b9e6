"""The command as a person types it, on a model and data that run in a second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import vidpref
from callbacks.cli.run_record import CONFIG_KEY
from tests.support import command_fakes
from tests.support.experiment import EXPERIMENT, Run, metrics, run
from tests.support.other_writer import other_writer
from tests.support.paths import ROOT

__all__ = ["run"]


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert vidpref.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown for verb in ("prepare", "fit", "validate", "test", "predict"))


def test_help_names_only_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert vidpref.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "vidpref --version\n" in shown
    assert all(kind in shown for kind in ("pairs", "labels", "latents", "videos")), "what predict writes"
    assert vidpref.main(["--version"]) == 0


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, vidpref; vidpref.main(['--help']); vidpref.main(['prepare', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "lightning", "transformers", "peft", "wandb", "matplotlib", "jsonargparse", "numpy"}


@pytest.mark.slow
def test_parsing_loads_no_heavy_library_but_lightnings_own() -> None:
    code = (
        "import sys, lightning.pytorch.cli\n"
        "heavy = {'transformers', 'peft', 'wandb', 'matplotlib', 'cv2', 'trl', 'webdataset', 'openai'}\n"
        "heavy -= set(sys.modules)\n"
        "from callbacks.cli.class_names import import_config_classes; import_config_classes()\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_a_second_fit_in_the_same_folder_is_told_of_the_first(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with other_writer(Path("run"), is_folder=True) as other:
        assert run("fit") == 1
        message = capsys.readouterr().err
        assert f"error: run is being written by process {other.pid} on " in message
        assert "Traceback" not in message
        assert not Path("run/checkpoints").exists()
        assert run("fit", "--trainer.default_root_dir=mine") == 0
    assert run("fit") == 0, "the first is gone"
    assert not Path("run/.lock").exists()


def test_a_run_of_version_0_1_0_goes_on_without_a_word_about_its_checkpoint_callback(
    run: Run, recwarn: pytest.WarningsRecorder
) -> None:
    """Its folder has two files for each save; the younger one is not of this version."""
    former = ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.every_n_train_steps=100"]
    assert run("fit", "--trainer.max_epochs=1", *former, "--trainer.callbacks.save_last=true") == 0
    Path("run/checkpoints/epoch=0-step=4.ckpt").write_bytes(Path("run/checkpoints/last.ckpt").read_bytes())
    os.utime("run/checkpoints/epoch=0-step=4.ckpt", (1, 1))
    recwarn.clear()
    assert run("fit") == 0
    assert [
        str(warning.message)
        for warning in recwarn
        if "callbacks" in str(warning.message) or "read" in str(warning.message)
    ] == []
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 8


def test_checkpoints_that_are_not_read_are_named(run: Run, recwarn: pytest.WarningsRecorder) -> None:
    assert run("fit", "--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.every_n_train_steps=3") == 0
    assert sorted(path.name for path in Path("run/checkpoints").iterdir()) == ["epoch=1-step=6.ckpt", "last.ckpt"]
    assert not [warning for warning in recwarn if "does not read" in str(warning.message)]
    assert run("fit", "--ckpt_path=null", "--trainer.max_epochs=3") == 0
    (warned,) = [str(warning.message) for warning in recwarn if "does not read" in str(warning.message)]
    assert warned.startswith(
        "this run starts at the first step, and does not read run/checkpoints/epoch=1-step=6.ckpt, "
    )
    assert warned.endswith("last.ckpt; to go on from one give --ckpt_path FILE")


def test_a_short_run_logs_although_nothing_says_how_often(run: Run, tmp_path: Path) -> None:
    Path("experiment.yaml").write_text(EXPERIMENT.replace("  log_every_n_steps: 1\n", ""))
    assert run("fit") == 0
    assert [row["step"] for row in metrics(tmp_path / "run/fit/version_0")] == [str(step) for step in range(8)]


def test_fit_writes_checkpoint_log_and_record(run: Run, tmp_path: Path) -> None:
    assert run("fit") == 0
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()
    folder = tmp_path / "run/fit/version_0"
    rows = metrics(folder)
    assert {"train/loss", "train/loss/response", "train/samples_per_second", "train/step_seconds"} <= rows[0].keys()
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.01
    assert saved["seed_everything"] == 0
    facts = json.loads((folder / "run.json").read_text())
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0] or facts["versions"]["torch"]
    assert "git_commit" in facts


def test_the_same_command_resumes(run: Run, tmp_path: Path) -> None:
    assert run("fit", "--trainer.max_epochs", "1") == 0
    assert run("fit") == 0
    first, second = metrics(tmp_path / "run/fit/version_0"), metrics(tmp_path / "run/fit/version_1")
    assert [row["step"] for row in first] == ["0", "1", "2", "3"]
    assert [row["step"] for row in second] == ["4", "5", "6", "7"]


def test_record_of_another_verb_has_its_own_folder(run: Run, tmp_path: Path) -> None:
    assert run("fit") == 0
    assert run("test") == 0
    assert run("test") == 0
    for version in ("version_0", "version_1"):
        assert (tmp_path / "run/test" / version / "config.yaml").is_file()
    assert len(list((tmp_path / "run/fit").iterdir())) == 1


def test_record_without_a_logger(run: Run, tmp_path: Path) -> None:
    assert run("fit", "--trainer.logger", "false") == 0
    assert run("fit", "--trainer.logger", "false") == 0
    assert (tmp_path / "run/fit/version_1/config.yaml").is_file()


def test_saved_config_runs_again(run: Run, tmp_path: Path) -> None:
    assert run("fit", "--model.beta", "0.25") == 0
    saved = tmp_path / "run/fit/version_0/config.yaml"
    assert vidpref.main(["fit", "--config", str(saved), "--trainer.default_root_dir", "again"]) == 0
    again = yaml.safe_load((tmp_path / "again/fit/version_0/config.yaml").read_text())
    assert again["model"]["init_args"]["beta"] == 0.25


@pytest.mark.parametrize("ckpt_path", ["last", "run/checkpoints/last.ckpt"])
def test_flag_beats_checkpoint_and_the_difference_is_listed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], ckpt_path: str
) -> None:
    assert run("fit", "--trainer.max_epochs", "1") == 0
    assert "another configuration" not in capsys.readouterr().err
    assert run("fit", "--model.beta", "0.5", "--ckpt_path", ckpt_path) == 0
    message = capsys.readouterr().err
    assert message.count("model.beta: 0.1 in the checkpoint, 0.5 now") == 1
    assert "optimizer" not in message.partition("another configuration")[2].partition("\nSeed")[0]
    checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint[CONFIG_KEY]["model"]["init_args"]["beta"] == 0.5
    used = yaml.safe_load((tmp_path / "run/fit/version_1/config.yaml").read_text())
    assert used["model"]["init_args"]["beta"] == 0.5


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_print_config(run: Run, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert command_fakes.exit_status(lambda: run(verb, "--print_config")) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["model"]["class_path"] == "tests.support.command_fakes.TinyModule"
    assert shown["trainer"]["use_distributed_sampler"] is False
    assert shown["trainer"]["inference_mode"] is False


def test_second_config_appends_callbacks_and_single_values_win(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    text = EXPERIMENT.replace("trainer:\n", "trainer:\n  callbacks: [LearningRateMonitor]\n")
    Path("experiment.yaml").write_text(text)
    Path("overlay.yaml").write_text("trainer:\n  devices: 1\n  callbacks+: [Throughput]\n")
    assert (
        command_fakes.exit_status(
            lambda: run("fit", "--config", "overlay.yaml", "--model.beta", "0.3", "--print_config")
        )
        == 0
    )
    shown = yaml.safe_load(capsys.readouterr().out)
    names = [callback["class_path"].rpartition(".")[2] for callback in shown["trainer"]["callbacks"]]
    assert names == ["LearningRateMonitor", "Throughput"]
    assert shown["trainer"]["devices"] == 1
    assert shown["model"]["init_args"]["beta"] == 0.3
