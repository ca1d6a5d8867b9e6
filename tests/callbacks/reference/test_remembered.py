"""Remembered reference scores: every sample scored once, training as with a live reference, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from callbacks.reference.model import ReferenceModel
from callbacks.reference.remembered import RememberedScores
from datamodules.shards.index import Index
from lightning_modules.vista_dpo import VistaWeights
from tests.support.command_runs import fit, steps, write_uneven_shards
from tests.support.flow_fakes import dense_module
from tests.support.paths import ROOT
from tests.support.preference_fakes import Batches, FakePairs, make_batch, make_module, make_trainer
from tests.support.reference_caches import batches, fit_with
from tests.support.tiny_video_llava import save_tiny_video_llava
from tests.support.two_ranks import LeaveGroup, two_ranks


class Before(Callback):
    """Before `ReferenceModel`: how many forwards the policy had made when a batch came."""

    def __init__(self) -> None:
        self.passes = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.passes = pl_module.policy.passes


class Passes(Callback):
    """After `ReferenceModel`: how many forwards it made for each batch."""

    def __init__(self, before: Before) -> None:
        self.before = before
        self.made: list[int] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.made.append(pl_module.policy.passes - self.before.passes)


def remembered_fit(folder: Path, steps: int, data: FakePairs | None = None, **settings: Any) -> tuple[Any, list[int]]:
    """The trained module, and the reference's forwards for each batch."""
    before = Before()
    passes, module = Passes(before), make_module(**settings.pop("module", {}))
    reference = ReferenceModel("remember", str(folder), guard_every_n_steps=0)
    trainer = make_trainer([before, reference, passes], steps=steps, **settings)
    trainer.fit(module, data or FakePairs(batches()))
    return module, passes.made


def shuffled() -> FakePairs:
    """Batches of other samples in every epoch."""

    class Epochs(FakePairs):
        def train_dataloader(self) -> Any:
            orders = [[[0, 1], [2, 3], [4, 5]], [[5, 2], [0, 4], [3, 1]], [[1, 4], [5, 0], [2, 3]]]
            return Batches([make_batch(samples) for samples in orders[self.trainer.current_epoch % 3]])

    return Epochs([make_batch([0, 1]), make_batch([2, 3]), make_batch([4, 5])])


@pytest.mark.parametrize("token", [0.0, 1.0])
def test_training_equals_a_live_reference_to_the_last_digit(tmp_path: Path, token: float) -> None:
    """Three epochs, each in another order; the reference makes its forwards in the first."""
    weights = VistaWeights(clip=0, object=0, token=token)
    settings: dict[str, Any] = {"reload_dataloaders_every_n_epochs": 1, "module": {"weights": weights}}
    module, made = remembered_fit(tmp_path / "kept", 9, shuffled(), **settings)
    # The first batch is scored once more for the guard.
    assert made == [2, 1, 1, 0, 0, 0, 0, 0, 0]

    live = make_module(weights=weights)
    trainer = make_trainer([ReferenceModel()], steps=9, reload_dataloaders_every_n_epochs=1)
    trainer.fit(live, shuffled())
    expected = dict(live.named_parameters())
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    assert not torch.equal(expected["policy.model.base_model.model.body.lora_B.default.weight"], torch.zeros(8, 2))

    (folder,) = (tmp_path / "kept").iterdir()
    entries = [entry for path in folder.glob("*.index.json") for entry in Index.read(path, "vidpref/side").entries]
    assert sorted(entry.key for entry in entries) == [f"s{sample}" for sample in range(6)], "each sample once"


def test_another_start_reads_what_was_kept_and_other_settings_do_not(tmp_path: Path) -> None:
    _, made = remembered_fit(tmp_path, 2)  # stopped within the first epoch, padding in the third batch
    assert made == [2, 1]
    again, made = remembered_fit(tmp_path, 5)
    # The first batch: a forward for the guard, and one that compares what was kept with the policy.
    assert made == [2, 0, 1, 0, 0]
    expected = fit_with(ReferenceModel(), 5)
    assert all(torch.equal(parameter, expected[name]) for name, parameter in again.named_parameters())
    _, made = remembered_fit(tmp_path, 5, FakePairs(batches(), seed=1))
    assert made == [2, 1, 1, 0, 0], "other negatives"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_validation_is_remembered_too(tmp_path: Path) -> None:
    data = FakePairs(batches(), val=[make_batch([7, 8], masked=(1,))])
    remembered_fit(tmp_path, 3, data)
    module, reference = make_module(), ReferenceModel("remember", str(tmp_path))
    make_trainer([reference]).validate(module, data, verbose=False)
    assert module.policy.passes == 1, "the policy's own"


def test_altered_scores_are_refused_at_the_start(tmp_path: Path) -> None:
    """Such as those of other weights under the same names."""
    remembered_fit(tmp_path, 3)
    (folder,) = tmp_path.iterdir()
    (path,) = folder.glob("*.index.json")
    text = path.read_text()
    index = Index.read(path)
    for entry in index.entries:
        for name in entry.facts["answers"]:
            entry.facts["answers"][name][0] += 1.0
    path.unlink()
    index.write(path)
    assert path.read_text() != text
    with pytest.raises(ValueError, match=r"the cached scores are not this policy's.*sample 's0'"):
        remembered_fit(tmp_path, 3)


def test_what_does_not_repeat_is_refused() -> None:
    data = FakePairs(batches())
    data.resample_each_epoch = True
    with pytest.raises(ValueError, match="resample_each_epoch draws new negatives"):
        fit_with(ReferenceModel("remember"), data=data)
    with pytest.raises(ValueError, match="mode is remember, but the scores of DenseDPO are errors at a time"):
        make_trainer([ReferenceModel("remember")]).fit(dense_module(), data)
    with pytest.raises(ValueError, match="mode is remember, but 1 parameters train that are no adapter's"):
        fit_with(ReferenceModel("remember"), train_head=True)
    with pytest.raises(ValueError, match="refresh_every_n_steps is 2"):
        ReferenceModel("remember", refresh_every_n_steps=2)
    with pytest.raises(ValueError, match="give one folder, or none"):
        ReferenceModel("remember", ["a", "b"])


def test_portions_are_written_while_the_epoch_lasts(tmp_path: Path) -> None:
    module = make_module()
    module.policy.load()
    kept = RememberedScores(tmp_path, {"fingerprint": "train"}, samples_per_shard=2)
    for samples in ([0], [1], [2]):
        batch = make_batch(samples)
        with torch.no_grad():
            kept.add(batch, module.scores(batch))
    other = RememberedScores(tmp_path, {"fingerprint": "train"})
    other.read()
    assert other.keys == {"s0", "s1"}, "one whole portion"
    kept.write()
    other.read()
    assert other.keys == {"s0", "s1", "s2"}
    batch = make_batch([2, 0])
    with torch.no_grad():
        live = module.scores(batch)
    read = other.scores(batch, batch.encoded.hidden_answer)
    assert torch.equal(read.log_probs, live.log_probs)
    assert torch.equal(read.hidden, live.hidden)


class Halves(FakePairs):
    """Two ranks, each with half of the batches, the other half in the next epoch."""

    def train_dataloader(self) -> Any:
        return Batches(self.train[(self.trainer.global_rank + self.trainer.current_epoch) % 2 :: 2])


class Written(Passes):
    """Writes what was counted on each rank."""

    def __init__(self, before: Before, folder: Path) -> None:
        super().__init__(before)
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        (self.folder / f"passes-{trainer.global_rank}.json").write_text(json.dumps(self.made))


@pytest.mark.slow
def test_ranks_share_what_they_keep(tmp_path: Path) -> None:
    before = Before()
    callbacks = [before, ReferenceModel("remember", str(tmp_path / "kept")), Written(before, tmp_path), LeaveGroup()]
    with two_ranks() as settings:
        trainer = make_trainer(callbacks, 4, reload_dataloaders_every_n_epochs=1, **settings)
        trainer.fit(make_module(), Halves([make_batch([number]) for number in range(4)]))
    for rank in range(2):
        assert json.loads((tmp_path / f"passes-{rank}.json").read_text()) == [2, 1, 0, 0]


@pytest.mark.slow
def test_the_command_remembers_on_one_rank_and_on_the_ranks_of_a_sharded_model(tmp_path: Path) -> None:
    """Two epochs of uneven samples with all terms; the second sharded run finds everything there."""
    save_tiny_video_llava(tmp_path / "tiny")
    write_uneven_shards(tmp_path / "train", 8)
    sharded = [f"{ROOT}/configs/strategy/fsdp.yaml", "--trainer.devices=2", "--trainer.strategy.param_dtype=float32"]

    def run(name: str, batch_size: int, *flags: str) -> list[float]:
        more = [f"--trainer.default_root_dir={name}", "--trainer.max_epochs=2", f"--data.batch_size={batch_size}"]
        done = fit(tmp_path, *flags, *more, probe=f"{name}.jsonl")
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout + done.stderr)
        return [step["loss"] for step in steps(tmp_path / f"{name}.jsonl")]

    said: list[str] = []
    live = run("live", 2)
    remember = "--trainer.callbacks.ReferenceModel.mode=remember"
    alone = run("alone", 2, remember)
    assert len(alone) == 8
    assert alone == pytest.approx(live, rel=1e-5)
    assert (tmp_path / "alone" / "reference_scores").is_dir()
    shared = f"--trainer.callbacks.ReferenceModel.cache={tmp_path}/shared"
    assert run("first", 1, *sharded, remember, shared) == pytest.approx(live, rel=1e-5)
    assert run("second", 1, *sharded, remember, shared) == pytest.approx(live, rel=1e-5)
    assert "reference scores: 0 of 8 train samples" in said[-2]
    assert "reference scores: 8 of 8 train samples" in said[-1]
