"""Frames that are given to a model: no label, no share in a mean, no item of a denominator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from callbacks.reference.probes import PairProbe
from datamodules.dense.batches import PairBatch
from datamodules.dense.inputs import Condition
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies.given_image import token_times
from lightning_modules.policies.video_flow import error_weight
from tests.support.flow_fakes import TinyFlow, dense_module, pair_batch


class GivenFirst(TinyFlow):
    """The first latent frame is given where the condition has an image."""

    def predicted_frames(self, frames: int, condition: Condition) -> Tensor:
        predicted = torch.ones(frames, dtype=torch.bool)
        predicted[0] = condition.image is None
        return predicted


def module_and_batch(**settings: Any) -> tuple[DenseDPO, PairBatch]:
    module = dense_module(GivenFirst(), **settings)
    module.policy.load()
    batch = pair_batch()
    # The first pair is given its first frame, the others nothing.
    images = [torch.zeros(3, 1, 2, 4), None, None, None]
    batch.conditions = [Condition(8.0, image) for image in images]
    batch.labels[0, 0], batch.segments[0, 0] = 0, -1
    return module, batch


def test_a_given_frame_has_the_mean_error_of_the_others_and_so_no_share_in_it() -> None:
    module, batch = module_and_batch()
    plain = module.errors(batch.first, batch.noise, batch.t, batch.prompts)
    given = module.errors(batch.first, batch.noise, batch.t, batch.prompts, conditions=batch.conditions)
    torch.testing.assert_close(given[1:], plain[1:], rtol=0, atol=0)
    torch.testing.assert_close(given[0, 1:], plain[0, 1:], rtol=0, atol=0)
    torch.testing.assert_close(given[0].mean(), plain[0, 1:].mean())


@pytest.mark.parametrize("settings", [{}, {"form": "per_video"}, {"granularity": "whole"}])
def test_what_a_given_frame_holds_moves_no_loss_and_no_gradient(settings: dict[str, str]) -> None:
    losses = []
    for shift in (0.0, 3.0):
        module, batch = module_and_batch(**settings)
        batch.first[0, :, 0] += shift
        with torch.no_grad():
            batch.reference = module.scores(batch)
        terms = module.terms(batch)
        loss = module.weighted(terms, batch)["preference"]
        loss.backward()
        gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
        losses.append([float(loss.detach()), *(float(gradient.sum()) for gradient in gradients)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert any(gradient != 0 for gradient in losses[0][1:])


def test_a_segment_is_averaged_over_the_frames_that_are_made() -> None:
    """Segment 0 has frames 0 and 1; with frame 0 given, its mean is frame 1's error."""
    module, batch = module_and_batch(form="per_video", granularity="segments")
    with torch.no_grad():
        batch.reference = module.scores(batch)
        for weight in module.policy.parameters():
            weight.add_(0.1)
        policy, reference = module.scores(batch), batch.reference
    gap = (policy.first - reference.first) - (policy.second - reference.second)
    expected = -50.0 * (gap[0, 1] - gap[0, 4])  # labels 1, 0, -1 of segments of 2, 2 and 1 frames
    term = module.terms(batch)["preference"]
    assert term.values[0].item() == pytest.approx(-torch.nn.functional.logsigmoid(expected).item(), rel=1e-4)


def test_the_error_of_v_is_that_of_the_velocity_times_its_weight() -> None:
    """On the path a x + s e: v = a e - s x, and its error is (1 - t)^2 + t^2 times the velocity's."""
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    scale = ((1 - t).square() + t.square()).rsqrt()
    signal, noise = (1 - t) * scale, t * scale
    clean, drawn, wrong = torch.randn(3, 3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    path = signal[:, None] * clean + noise[:, None] * drawn
    v = signal[:, None] * drawn - noise[:, None] * clean

    def velocity(prediction: Tensor) -> Tensor:
        return (noise - signal)[:, None] * path + (signal + noise)[:, None] * prediction

    torch.testing.assert_close(velocity(v), drawn - clean)
    ratio = (v - wrong).square().mean(1) / (velocity(v) - velocity(wrong)).square().mean(1)
    torch.testing.assert_close(error_weight(t, "v"), ratio)
    torch.testing.assert_close(error_weight(t, "noise"), (1 - t).square())
    assert error_weight(t, "velocity").tolist() == [1, 1, 1]


def test_a_given_frames_tokens_are_at_time_0() -> None:
    given = torch.tensor([[True, False], [False, False]])
    assert token_times(torch.tensor([0.5, 0.7]), given, (2, 1, 2)).tolist() == [
        [0, 0, 0.5, 0.5],
        pytest.approx([0.7] * 4),
    ]
    t = torch.tensor([0.5])
    assert token_times(t, None, (2, 1, 2)) is t


def test_a_kept_pair_has_the_corner_of_its_image_and_outlives_a_checkpoint() -> None:
    module, batch = module_and_batch()
    batch.conditions[0] = Condition(8.0, torch.randn(3, 1, 20, 18))
    for name in ("first", "second", "noise"):
        setattr(batch, name, torch.randn(4, 3, 5, 20, 18))
    probe = PairProbe.of(batch).thinned()
    assert probe.kept.first.shape == (1, 3, 4, 16, 16)
    assert torch.equal(probe.kept.conditions[0].image, batch.conditions[0].image[..., :16, :16])
    again = PairProbe.load({"key": probe.key, **probe.state()})
    for kept in (probe, again):
        scores = module.scores(kept.on(torch.device("cpu")))
        assert scores.first.shape == (1, 4)
    former = {name: value for name, value in probe.state().items() if name != "conditions"}
    former["prompts"] = [prompt["embeds"] for prompt in former["prompts"]]
    assert PairProbe.load({"key": "p0", **former}).kept.prompts[0].keys() == {"embeds"}, "as version 0.1.0 wrote it"
