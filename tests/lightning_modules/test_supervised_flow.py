"""Supervised fine-tuning of a flow model."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from lightning_modules.losses.flow import frame_errors, interpolate, velocity_target
from lightning_modules.supervised_flow import SupervisedFlow
from tests.support.flow_fakes import TinyFlow, latent_batch


def supervised() -> SupervisedFlow:
    module = SupervisedFlow(TinyFlow(), partial(torch.optim.SGD, lr=0.1))
    module.policy.load()
    return module


def test_every_real_video_counts_the_same() -> None:
    module, batch = supervised(), latent_batch(3, masked=[1])
    assert module.items() == {"supervised": "samples"}
    with torch.no_grad():
        velocity = module.policy(interpolate(batch.clean, batch.noise, batch.t), batch.t, batch.prompts)
    errors = frame_errors(velocity, velocity_target(batch.clean, batch.noise)).mean(-1)
    term = module.terms(batch)["supervised"]
    assert term.samples == [0, 2]
    assert term.chosen_rewards is None
    torch.testing.assert_close(term.values, errors[[0, 2]])
    torch.testing.assert_close(module.weighted({"supervised": term}, batch)["supervised"], errors[[0, 2]].mean())


def test_padding_alone_is_exactly_nothing_with_a_graph() -> None:
    module, batch = supervised(), latent_batch(2, masked=[0, 1])
    loss = module.weighted(module.terms(batch), batch)["supervised"]
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in module.trainable().values())


def test_training_lowers_the_error() -> None:
    module, batch = supervised(), latent_batch()
    optimizer, losses = torch.optim.SGD(module.trainable().values(), lr=0.3), []
    for _ in range(20):
        optimizer.zero_grad()
        loss = module.weighted(module.terms(batch), batch)["supervised"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.98 * losses[0]


def test_a_dropped_prompt_is_the_empty_one() -> None:
    module, batch = supervised(), latent_batch(3)
    empty = {"embeds": torch.full((1, 4), 9.0)}
    module.policy.encode_prompt = lambda prompts, allow_empty=False: [empty] * len(prompts)  # type: ignore[method-assign]
    module.policy.release = lambda: None  # type: ignore[method-assign]
    seen: list[list[torch.Tensor]] = []
    module.errors = lambda clean, noise, t, prompts, conditions: seen.append(prompts) or clean.mean((1, 3, 4))  # type: ignore[assignment,method-assign]
    batch.prompts[1] = {}
    for drop in (0.0, 0.1):
        module._trainer = SimpleNamespace(datamodule=SimpleNamespace(drop_prompts=drop))  # type: ignore[assignment]
        module.on_fit_start()
        assert (module._empty_prompt is None) is (drop == 0.0)
    module.terms(batch)
    assert seen[0][0] is batch.prompts[0]
    assert torch.equal(seen[0][1]["embeds"], torch.full((1, 4), 9.0))


def test_the_learning_rate_rises_over_a_number_of_steps() -> None:
    assert supervised().warmup == 250
    with pytest.raises(ValueError, match=r"a whole number of steps above 1"):
        SupervisedFlow(TinyFlow(), warmup=2.5)
