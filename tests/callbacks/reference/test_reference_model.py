from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from callbacks.reference.model import ReferenceModel
from datamodules.vista.batches import VistaBatch
from lightning_modules.vista_dpo import VistaDPO
from tests.support.preference_fakes import FakePairs, make_batch, make_module, make_trainer
from tests.support.reference_spy import ReferenceSpy

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Spy(ReferenceSpy):
    def scores(self, pl_module: Any, batch: Any) -> Tensor:
        scores: Tensor = pl_module.policy(batch.encoded).log_probs
        return scores


def batches(count: int = 6) -> list[VistaBatch]:
    return [make_batch([n, n + 1]) for n in range(count)]


def fit(reference: ReferenceModel, steps: int = 4, spy: Spy | None = None, **policy: Any) -> tuple[VistaDPO, Any]:
    module = make_module(**policy)
    trainer = make_trainer([reference, *([spy] if spy else [])], steps=steps)
    trainer.fit(module, FakePairs(batches()))
    return module, trainer


def start_scores(batch: VistaBatch, **policy: Any) -> Tensor:
    module = make_module(**policy)
    module.policy.load()
    with torch.no_grad():
        return module.policy(module.policy.encode(batch.views)).log_probs


def weights(module: VistaDPO) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fresh_adapter_starts_at_the_reference_bit_for_bit(precision: str) -> None:
    spy, module = Spy(), make_module()
    make_trainer([ReferenceModel(), spy], steps=3, precision=precision).fit(module, FakePairs(batches()))
    assert spy.batches[0].reference is not None
    assert torch.equal(spy.batches[0].reference.log_probs, spy.policy[0])
    assert spy.losses[0] == pytest.approx(2.1 * torch.log(torch.tensor(2.0)).item(), abs=1e-6)
    assert not torch.equal(spy.batches[2].reference.log_probs, spy.policy[2]), "the policy moved away by then"
    assert not any(
        batch.reference.log_probs.requires_grad or batch.reference.hidden.requires_grad for batch in spy.batches
    )


def test_the_reference_stays_the_start_while_the_adapter_trains() -> None:
    spy = Spy()
    module, _ = fit(ReferenceModel(), spy=spy)
    for batch in spy.batches:
        assert torch.allclose(batch.reference.log_probs, start_scores(batch), atol=1e-6)
    training = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert training == {name for name, _ in module.named_parameters() if ".lora_" in name}
    assert not any(layer._disable_adapters for layer in module.modules() if hasattr(layer, "_disable_adapters"))


def test_videos_are_encoded_once_for_policy_and_reference() -> None:
    module, _ = fit(ReferenceModel(guard_every_n_steps=0), steps=4)
    assert module.policy.encodings == 4 + 1, "four batches and the guard's first view"
    assert module.policy.passes == 2 * 4 + 1


def test_a_trained_adapter_to_start_from_stays_in_the_reference() -> None:
    spy = Spy()
    fit(ReferenceModel(), spy=spy, start=0.3, with_reference=True)
    for batch in spy.batches:
        assert torch.allclose(batch.reference.log_probs, start_scores(batch, start=0.3), atol=1e-6)
        assert not torch.allclose(batch.reference.log_probs, start_scores(batch), atol=1e-2), "not the bare model"


def test_full_fine_tuning_wants_a_copy() -> None:
    with pytest.raises(ValueError, match=r"parameters train that are no adapter's.*use mode copy, or mode cached"):
        fit(ReferenceModel(), lora=False)
    with pytest.raises(ValueError, match=r"1 parameters train that are no adapter's .*head"):
        fit(ReferenceModel(), train_head=True)


def test_a_copy_has_the_starting_weights_and_is_in_no_checkpoint(tmp_path: Path) -> None:
    spy = Spy()
    module, trainer = fit(ReferenceModel("copy"), spy=spy, lora=False)
    assert spy.losses[0] == pytest.approx(2.1 * torch.log(torch.tensor(2.0)).item(), abs=1e-6)
    for batch in spy.batches:
        assert torch.allclose(batch.reference.log_probs, start_scores(batch, lora=False), atol=1e-6)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    saved = torch.load(tmp_path / "run.ckpt", weights_only=True)
    assert saved["state_dict"].keys() == set(module.trainable())
    assert "tensors" not in next(state for name, state in saved["callbacks"].items() if "ReferenceModel" in name)

    resumed = Spy()
    trainer = make_trainer([ReferenceModel("copy"), resumed], steps=6)
    trainer.fit(make_module(lora=False), FakePairs(batches()), ckpt_path=tmp_path / "run.ckpt")
    assert len(resumed.batches) == 2
    for batch, policy in zip(resumed.batches, resumed.policy, strict=True):
        assert torch.allclose(batch.reference.log_probs, start_scores(batch, lora=False), atol=1e-6)
        assert not torch.allclose(batch.reference.log_probs, policy, atol=1e-3), "the resumed weights went on"


def test_the_copy_brings_its_own_head_for_the_token_term() -> None:
    spy = Spy()
    module, _ = fit(ReferenceModel("copy"), spy=spy, lora=False)
    batch = spy.batches[-1]
    assert batch.reference_head is not None
    start = make_module(lora=False).policy
    start.load()
    hidden = batch.reference.hidden
    assert torch.equal(batch.reference_head(hidden), start.logits(hidden))
    assert not torch.equal(batch.reference_head(hidden), module.policy.logits(hidden))


def test_validation_has_a_reference_too() -> None:
    spy, module = Spy(), make_module()
    data = FakePairs(batches(), val=[make_batch([4]), make_batch([5])])
    make_trainer([ReferenceModel(), spy], steps=2, val_check_interval=1).fit(module, data)
    make_trainer([ReferenceModel("copy"), spy]).validate(module, data, verbose=False)
    assert len(spy.validated) == 2 * 2 + 2
    for batch in spy.validated[:4]:
        assert torch.allclose(batch.reference.log_probs, start_scores(batch), atol=1e-6)


# Refresh


@pytest.mark.parametrize(("mode", "policy"), [("adapter", {"with_reference": True}), ("copy", {"lora": False})])
def test_a_hard_refresh_makes_the_reference_the_policy(mode: Any, policy: dict[str, Any]) -> None:
    spy = Spy()
    fit(ReferenceModel(mode, refresh_every_n_steps=2), steps=4, spy=spy, **policy)
    for step, (batch, now) in enumerate(zip(spy.batches, spy.policy, strict=True)):
        assert torch.allclose(batch.reference.log_probs, now, atol=1e-6) == (step % 2 == 0), step


@pytest.mark.parametrize(("mode", "policy"), [("adapter", {"with_reference": True}), ("copy", {"lora": False})])
def test_a_moving_average_follows_from_behind(mode: Any, policy: dict[str, Any]) -> None:
    module = make_module(**policy)
    module.policy.load()
    reference = ReferenceModel(mode, refresh_every_n_steps=1, refresh_decay=0.75)
    steps: list[dict[str, Tensor]] = []

    class Record(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            steps.append(weights(module))

    make_trainer([Record(), reference], steps=3).fit(module, FakePairs(batches()))
    kept = reference.source.tensors(module)
    for name, value in kept.items():
        trained = name.replace(".reference.", ".default.")
        first, second, third = (step[f"policy.{trained}"] for step in steps)
        expected = 0.75 * (0.75 * first + 0.25 * second) + 0.25 * third
        assert torch.allclose(value, expected, atol=1e-6), name


@pytest.mark.parametrize(("mode", "policy"), [("adapter", {"with_reference": True}), ("copy", {"lora": False})])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_has_the_refreshed_reference(
    mode: Any, policy: dict[str, Any], stop: int, tmp_path: Path
) -> None:
    def reference() -> ReferenceModel:
        return ReferenceModel(mode, refresh_every_n_steps=2, refresh_decay=0.5, guard_every_n_steps=1)

    whole, _ = fit(reference(), steps=5, **policy)
    _, trainer = fit(reference(), steps=stop, **policy)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    resumed = make_module(**policy)
    # The fake data has no state: the rest of the batches is what a real loader would go on with.
    data = FakePairs(batches()[stop:] + batches()[:stop])
    make_trainer([reference()], steps=5).fit(resumed, data, ckpt_path=tmp_path / "run.ckpt")
    assert same(weights(whole), weights(resumed))


def test_refreshing_needs_an_adapter_of_its_own() -> None:
    with pytest.raises(ValueError, match="set `reference_adapter: true` in the policy"):
        fit(ReferenceModel(refresh_every_n_steps=2))


# The guard


def spoil(module: VistaDPO) -> None:
    with torch.no_grad():
        module.policy.net["head"].weight.mul_(1.5)


def test_the_guard_stops_a_run_whose_reference_moves() -> None:
    with pytest.raises(ValueError, match=r"the reference moved.*the \w+ answer of sample 's0' had -.*difference"):
        fit(ReferenceModel(guard_every_n_steps=2), steps=6, spy=Spy(spoil, step=1))
    spy = Spy(spoil, step=1)
    fit(ReferenceModel(guard_every_n_steps=0), steps=3, spy=spy)
    assert len(spy.batches) == 3, "it looks only when it is asked to"


def test_the_guard_looks_at_every_validation() -> None:
    data = FakePairs(batches(), val=[make_batch([4])])
    trainer = make_trainer([ReferenceModel(guard_every_n_steps=0), Spy(spoil, step=1)], steps=3, val_check_interval=2)
    with pytest.raises(ValueError, match="the reference moved"):
        trainer.fit(make_module(), data)
    assert trainer.global_step == 2


def test_the_guard_takes_a_refresh_for_right() -> None:
    reference = ReferenceModel(refresh_every_n_steps=2, guard_every_n_steps=1)
    _, trainer = fit(reference, steps=6, with_reference=True)
    assert trainer.global_step == 6


def test_the_guard_notices_other_starting_weights_at_a_resume(tmp_path: Path) -> None:
    _, trainer = fit(ReferenceModel(), steps=2, start=0.3, with_reference=True)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    other = make_module(start=0.9, with_reference=True)
    with pytest.raises(ValueError, match="resumed with other starting weights"):
        make_trainer([ReferenceModel()], steps=4).fit(other, FakePairs(batches()), ckpt_path=tmp_path / "run.ckpt")


def test_the_guard_chooses_a_real_sample() -> None:
    reference = ReferenceModel()
    make_trainer([reference], steps=1).fit(make_module(), FakePairs([make_batch([3, 4], masked=(0,))]))
    assert reference.guard.state()["key"] == "s4"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "cached"}, "`cache` goes with mode cached only"),
        ({"cache": "a.index.json"}, "`cache` goes with mode cached only"),
        (
            {"mode": "cached", "cache": "a", "refresh_every_n_steps": 3},
            "cached scores are those of the starting weights",
        ),
        ({"refresh_every_n_steps": 0}, "give 1 or more"),
        ({"refresh_decay": 1.0}, r"a number in \[0, 1\)"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReferenceModel(**settings)
