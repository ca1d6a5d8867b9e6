"""What version 0.1.0 wrote is read: shards, indexes, labels, cached reference scores and checkpoints.

The files under ``tests/data/written_by_0_1_0`` were written by that version, with runs of four steps that were killed
after a checkpoint at step 2; ``whole.jsonl`` holds the losses and gradient norms of the same runs, not interrupted.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from datamodules.prepare.verify import verify
from datamodules.shards.byte_reader import ByteReader
from datamodules.shards.checks import load_index
from datamodules.shards.sample_reader import SampleReader
from datamodules.vista.samples import PreferenceRow
from tests.support.command_runs import fit, run_fit, steps
from tests.support.paths import ROOT

FORMER = ROOT / "tests/data/written_by_0_1_0"
FINGERPRINTS = {
    "vista/train": ("vidpref/vista", "a283c60d267b737f99ba383e30f303b32b9a318e10ee2634e4218b392327f23c"),
    "vista/cache/train": ("vidpref/side", "e8b557bca05603cec59421d5ff8e5359008f1f39a1abe456aba84ff79e7abdea"),
    "dense/pairs": ("vidpref/pairs", "d7ad787688599adf9cc0b08d6e06cf7968aef065e60a5c1f835c1b60e8efc6d4"),
    "dense/labels": ("vidpref/labels", "d76ceb5204bde4d9dd490af8d132bce38d894f9701b06c38e176e352ed291523"),
}


@pytest.fixture
def former(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FORMER, tmp_path / "former"))


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_an_index_keeps_its_fingerprint(name: str) -> None:
    schema, fingerprint = FINGERPRINTS[name]
    assert load_index(FORMER / f"{name}.index.json", schema).fingerprint == fingerprint


@pytest.mark.parametrize("name", ["vista/train", "vista/cache/train", "dense/labels"])
def test_every_sample_is_sound(name: str) -> None:
    assert verify(FORMER / f"{name}.index.json") == []


def test_every_row_is_read_with_its_answers_under_their_present_names() -> None:
    index = load_index(FORMER / "vista/train.index.json", "vidpref/vista")
    reader = SampleReader(index, ByteReader())
    for position in range(len(index)):
        stored = json.loads(reader.read(position, ["json"])["json"])
        row = PreferenceRow.from_json(stored)
        assert (row.chosen, row.rejected) == (stored["chosen"], stored["relevant"])
        assert row.faults() == []


def resumed(folder: Path, done_steps: int) -> None:
    """The rest of a run has the losses and the gradient norms of the whole one."""
    whole, rest = steps(folder / "whole.jsonl"), steps(folder / "run.jsonl")
    assert [line["step"] for line in rest] == list(range(done_steps + 1, 5))
    for one, other in zip(whole[done_steps:], rest, strict=True):
        assert other["keys"] == one["keys"]
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["norm"] == pytest.approx(one["norm"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--trainer.callbacks=ReferenceModel", "--trainer.callbacks.mode=cached")])
def test_a_vista_run_goes_on_live_and_with_its_cache(former: Path, flags: tuple[str, ...]) -> None:
    folder = former / "vista"
    if flags:
        flags = (*flags, "--trainer.callbacks.cache=cache/train.index.json")
    saved = ("--trainer.default_root_dir=run", "--trainer.max_steps=4", "--data.batch_size=2")
    done = fit(folder, *flags, *saved, probe="run.jsonl")
    assert done.returncode == 0, done.stdout + done.stderr
    resumed(folder, 2)


@pytest.mark.slow
def test_a_dense_run_goes_on(former: Path) -> None:
    folder = former / "dense"
    settings = {
        "trainer.default_root_dir": "run",
        "model.policy.path": "tiny",
        "model.policy.dtype": "float32",
        "model.policy.lora": "{r: 4, alpha: 8}",
        "model.policy.prompt_length": 8,
        "model.optimizer.lr": 0.01,
        "model.supervised_weight": 0.1,
        "model.warmup": 0,
        "data.train": "pairs.index.json",
        "data.train_labels": "labels.index.json",
        "data.num_workers": 0,
        "data.batch_size": 3,
    }
    config = f"{ROOT}/configs/dense_dpo/wan_lora.yaml"
    done = run_fit(folder, config, settings, "--trainer.max_steps=4", probe="run.jsonl")
    assert done.returncode == 0, done.stdout + done.stderr
    resumed(folder, 2)
