"""`vidpref export`: what a checkpoint of a run holds, as the run itself would have exported it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import vidpref
from callbacks.export_run import export_run, short_names
from callbacks.recovery import Recovery
from datamodules.shards.output_lock import LockedError
from tests.support.command_runs import fit, write_uneven_shards
from tests.support.other_writer import other_writer
from tests.support.paths import ROOT
from tests.support.tiny_video_llava import save_tiny_video_llava

ADAPTER = "adapter_model.safetensors"


@pytest.mark.slow
def test_a_checkpoint_becomes_the_export_of_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny_video_llava(tmp_path / "tiny")
    write_uneven_shards(tmp_path / "train", 4)
    more = ("--trainer.callbacks+=Recovery", "--trainer.callbacks.every_n_steps=1")
    more += ("--data.val=train.index.json", "--trainer.default_root_dir=run", "--trainer.max_steps=2")
    done = fit(tmp_path, *more, "--data.batch_size=2")
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.chdir(tmp_path)
    exported, card = (Path("run/exports/last", name).read_bytes() for name in (ADAPTER, "README.md"))
    assert b"The last logged scores, after optimizer step 2:" in card
    assert b"| val/loss |" in card
    assert b"train.index.json: 4 samples, fingerprint" in card
    shutil.copyfile("run/checkpoints/last.ckpt", "run/checkpoints/best.ckpt")
    shutil.rmtree("run/exports")
    with other_writer(Path("run"), is_folder=True), pytest.raises(LockedError, match="run is being written by"):
        export_run("run")
    assert not Path("run/exports").exists(), "a running fit exports there itself"
    assert vidpref.main(["export", "run"]) == 0
    assert Path("run/exports/last", ADAPTER).read_bytes() == exported
    assert Path("run/exports/last/README.md").read_bytes() == card, "the run's data, scores and command, not this one's"
    shutil.rmtree("run/exports")
    assert fit(tmp_path, *more, "--data.batch_size=2").returncode == 0
    assert Path("run/exports/last/README.md").read_bytes() == card, "a start that has nothing left to train"
    assert vidpref.main(["export", "run", "--checkpoint", "run/checkpoints/best.ckpt"]) == 0
    assert Path("run/exports/best", ADAPTER).read_bytes() == exported
    assert vidpref.main(["export", "run/checkpoints/best.ckpt", "--output", "elsewhere/mine"]) == 0
    assert Path("elsewhere/mine", ADAPTER).read_bytes() == exported


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"last\.ckpt is no file; give --checkpoint .*there are none"):
        export_run(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": {}}, tmp_path / "checkpoints/best.ckpt")
    with pytest.raises(ValueError, match=r"last\.ckpt is no file; .*best\.ckpt"):
        export_run(str(tmp_path))
    with pytest.raises(ValueError, match="was not written by `vidpref fit`"):
        export_run(str(tmp_path / "checkpoints/best.ckpt"))
    (tmp_path / "checkpoints/last.ckpt").write_bytes(b"PK half")
    with pytest.raises(ValueError, match="is no whole checkpoint"):
        export_run(str(tmp_path))


def test_a_recorded_class_outlives_a_move_of_its_file() -> None:
    recorded = {
        "class_path": "lightning_modules.former_place.VistaDPO",
        "init_args": {"optimizer": {"class_path": "torch.optim.AdamW"}, "parts": [{"class_path": "callbacks.a.B"}]},
    }
    assert short_names(recorded) == {
        "class_path": "VistaDPO",
        "init_args": {"optimizer": {"class_path": "torch.optim.AdamW"}, "parts": [{"class_path": "B"}]},
    }


def test_a_run_of_version_0_1_0_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "tests/data/written_by_0_1_0/vista", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    export_run("run", output="exported")
    assert Path("exported", ADAPTER).stat().st_size > 0
    assert Recovery.__name__ not in torch.load("run/checkpoints/last.ckpt", weights_only=True)["callbacks"]
