"""`ReferenceModel` on a flow model: the same callback, other scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from callbacks.metrics.preference import PreferenceMetrics
from callbacks.reference.model import ReferenceModel
from callbacks.reference.probes import PairProbe, probe_of
from datamodules.dense.batches import FlowErrors, PairBatch
from lightning_modules.dense_dpo import DenseDPO
from tests.support.flow_fakes import LABELS, SHAPE, Given, TinyFlow, dense_module, pair_batch
from tests.support.preference_fakes import make_trainer
from tests.support.reference_spy import ReferenceSpy


class Spy(ReferenceSpy):
    def scores(self, pl_module: Any, batch: Any) -> Tensor:
        scores: Tensor = stacked(pl_module.scores(batch))
        return scores


def stacked(errors: FlowErrors | None) -> Tensor:
    assert errors is not None
    return torch.stack([errors.first, errors.second])


def batches(count: int = 6) -> list[PairBatch]:
    return [pair_batch(LABELS, first=number) for number in range(count)]


def fit(reference: ReferenceModel, steps: int = 4, spy: Spy | None = None, **policy: Any) -> tuple[DenseDPO, Any]:
    module = dense_module(TinyFlow(**policy))
    trainer = make_trainer([reference, *([spy] if spy else [])], steps=steps)
    trainer.fit(module, Given(batches()))
    return module, trainer


def start_errors(batch: PairBatch, **policy: Any) -> Tensor:
    module = dense_module(TinyFlow(**policy))
    module.policy.load()
    with torch.no_grad():
        return stacked(module.scores(batch))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fresh_adapter_starts_at_the_reference_bit_for_bit(precision: str) -> None:
    spy, module = Spy(), dense_module()
    make_trainer([ReferenceModel(), spy], steps=3, precision=precision).fit(module, Given(batches()))
    assert torch.equal(stacked(spy.batches[0].reference), spy.policy[0])
    assert spy.losses[0] == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-6)
    assert not torch.equal(stacked(spy.batches[2].reference), spy.policy[2]), "the policy moved away by then"
    assert not any(stacked(batch.reference).requires_grad for batch in spy.batches)


@pytest.mark.parametrize(
    ("mode", "policy"),
    [("adapter", {}), ("adapter", {"start": 0.3, "with_reference": True}), ("copy", {"lora": False})],
)
def test_the_reference_stays_the_start_while_the_policy_trains(mode: Any, policy: dict[str, Any]) -> None:
    spy = Spy()
    module, _ = fit(ReferenceModel(mode), spy=spy, **policy)
    for batch, now in zip(spy.batches, spy.policy, strict=True):
        torch.testing.assert_close(stacked(batch.reference), start_errors(batch, **policy))
        assert (batch is spy.batches[0]) == torch.allclose(stacked(batch.reference), now, atol=1e-6)
    assert not any(layer._disable_adapters for layer in module.modules() if hasattr(layer, "_disable_adapters"))


def test_a_step_is_one_forward_of_both_videos_for_policy_and_reference() -> None:
    module, _ = fit(ReferenceModel(guard_every_n_steps=0), steps=3)
    both = 2 * len(LABELS)
    assert module.policy.passes == [2, both, both, both, both, both, both], "the guard's pair comes first"


def test_validation_has_a_reference_too() -> None:
    spy = Spy()
    data = Given(batches(), val=[pair_batch(LABELS, first=9)])
    make_trainer([ReferenceModel(), spy], steps=2, val_check_interval=1).fit(dense_module(), data)
    assert len(spy.validated) == 2
    for batch in spy.validated:
        torch.testing.assert_close(stacked(batch.reference), start_errors(batch))


def test_a_cache_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"scores of DenseDPO are errors at a time .* drawn again in every epoch"):
        fit(ReferenceModel("cached", cache="a.index.json"))


def test_full_fine_tuning_wants_a_copy() -> None:
    with pytest.raises(ValueError, match=r"parameters train that are no adapter's.*use mode copy"):
        fit(ReferenceModel(), lora=False)


@pytest.mark.parametrize(("mode", "policy"), [("adapter", {"with_reference": True}), ("copy", {"lora": False})])
@pytest.mark.parametrize("stop", [2, 3])
def test_a_resumed_run_has_the_refreshed_reference(
    mode: Any, policy: dict[str, Any], stop: int, tmp_path: Path
) -> None:
    def reference() -> ReferenceModel:
        return ReferenceModel(mode, refresh_every_n_steps=2, refresh_decay=0.5, guard_every_n_steps=1)

    whole, _ = fit(reference(), steps=5, **policy)
    _, trainer = fit(reference(), steps=stop, **policy)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    resumed = dense_module(TinyFlow(**policy))
    # The fake data has no state: the rest of the batches is what a real loader would go on with.
    data = Given(batches()[stop:] + batches()[:stop])
    make_trainer([reference()], steps=5).fit(resumed, data, ckpt_path=tmp_path / "run.ckpt")
    expected, continued = whole.state_dict(), resumed.state_dict()
    assert continued.keys() == expected.keys()
    assert all(torch.equal(continued[name], expected[name]) for name in expected)


# The guard


def spoil(module: DenseDPO) -> None:
    with torch.no_grad():
        module.policy.net["head"].weight.mul_(1.5)  # type: ignore[attr-defined]


def test_the_guard_stops_a_run_whose_reference_moves() -> None:
    with pytest.raises(
        ValueError, match=r"the reference moved.*latent frame \d of the \w+ video of pair 'p0' had an error of"
    ):
        fit(ReferenceModel(guard_every_n_steps=2), steps=6, spy=Spy(spoil, step=1))


def test_the_guard_notices_other_starting_weights_at_a_resume(tmp_path: Path) -> None:
    _, trainer = fit(ReferenceModel(), steps=2, start=0.3, with_reference=True)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    other = dense_module(TinyFlow(start=0.9, with_reference=True))
    with pytest.raises(ValueError, match="resumed with other starting weights"):
        make_trainer([ReferenceModel()], steps=4).fit(other, Given(batches()), ckpt_path=tmp_path / "run.ckpt")


def test_the_guard_keeps_a_corner_of_the_first_real_pair() -> None:
    reference = ReferenceModel()
    make_trainer([reference], steps=1).fit(dense_module(), Given([pair_batch(LABELS, masked=[0, 1])]))
    state = reference.guard.state()
    assert state["key"] == "p2"
    assert state["noise"].shape == (1, SHAPE[0], PairProbe.SIZE[0], *SHAPE[2:])
    assert state["labels"].shape == (1, PairProbe.SIZE[0])
    assert probe_of(pair_batch(LABELS, masked=range(4))).key == "p0", "every rank asks, also one without a real pair"


def test_an_error_that_is_not_a_number_has_moved() -> None:
    probe = probe_of(pair_batch())
    scores = {"first": torch.ones(1, 2), "second": torch.ones(1, 2)}
    broken = {"first": torch.ones(1, 2), "second": torch.tensor([[1.0, torch.nan]])}
    assert probe.difference(scores, scores, 1e-3) is None
    assert "latent frame 1 of the second video of pair 'p0'" in str(probe.difference(scores, broken, 1e-3))


# Metrics


def test_draws_count_one_half_and_the_preference_term_needs_no_name() -> None:
    trainer = make_trainer([ReferenceModel(), PreferenceMetrics()], steps=1)
    trainer.fit(dense_module(), Given(batches()))
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["train/rewards/preference/accuracies"] == logged["train/rewards/accuracies"] == 0.5
    assert logged["train/rewards/preference/margins"] == 0.0


def test_full_fine_tuning_is_not_sent_to_a_cache_that_would_refuse_it() -> None:
    with pytest.raises(ValueError, match=r"use mode copy$"):
        fit(ReferenceModel(), lora=False)
