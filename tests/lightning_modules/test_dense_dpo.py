"""DenseDPO on policies whose velocities are known: published values through the module, and what must always hold."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.dense.batches import FlowErrors, PairBatch
from lightning_modules import dense_dpo
from lightning_modules.dense_dpo import DenseDPO, FlowTerm
from lightning_modules.losses import flow
from lightning_modules.losses.flow import frame_errors, interpolate, velocity_target
from tests.support.flow_fakes import LABELS, SEGMENTS, SHAPE, TableFlow, TinyFlow, dense_module, pair_batch
from tests.support.goldens import golden

FLOW = golden("dense_2_flow_dpo")
DENSE = golden("dense_3_dense_dpo")
#: Every form by name: the module's settings, and what `pair_batch` counts.
FORMS: dict[str, dict[str, Any]] = {
    "per_frame": {},
    "per_video": {"form": "per_video"},
    "whole": {"granularity": "whole"},
}


def golden_video(name: str) -> Tensor:
    """A published (B, F, C, H, W) video in our layout."""
    return torch.tensor(FLOW[name], dtype=torch.float64).transpose(1, 2)


def golden_gradient(case: Any) -> Tensor:
    """The published gradients of both videos' velocities in our layout."""
    both = [torch.tensor(case[name], dtype=torch.float64) for name in ("grad_v0", "grad_v1")]
    return torch.cat(both).transpose(1, 2)


def golden_case(items: float, given: Any, segments: Any = None, **settings: Any) -> tuple[DenseDPO, PairBatch]:
    """The published pairs with the reference's errors in place, and a module on the published velocities."""
    velocities, reference = (torch.cat([golden_video(f"v{i}_{kind}") for i in (0, 1)]) for kind in ("pred", "ref"))
    module = DenseDPO(TableFlow(velocities, reference), **settings)
    first = golden_video("x0")
    count, frames = first.shape[0], first.shape[2]
    labels = torch.tensor(given)
    batch = PairBatch(
        keys=[f"g{number}" for number in range(count)],
        first=first,
        second=golden_video("x1"),
        prompts=[{"embeds": torch.zeros(1, 2)}] * count,
        noise=golden_video("eps"),
        t=torch.tensor(FLOW["t"], dtype=torch.float64),
        labels=labels if labels.ndim == 2 else labels[:, None].expand(-1, frames),
        segments=torch.zeros(count, frames) if segments is None else torch.tensor(segments).expand(count, -1),
        preference=labels if labels.ndim == 1 else labels[:, 0],
        mask=torch.ones(count, dtype=torch.bool),
        denominators={"preference": items},
    )
    return module, referenced(module, batch)


def referenced(module: DenseDPO, batch: PairBatch) -> PairBatch:
    """The batch with the policy's scores in reference mode, as `ReferenceModel` puts them there."""
    with torch.no_grad(), module.policy.reference_mode():
        batch.reference = module.scores(batch)
    return batch


def total(module: DenseDPO, batch: PairBatch) -> Tensor:
    means = module.weighted(module.terms(batch), batch)
    return torch.stack([module.weights[name] * mean for name, mean in means.items()]).sum()


def table(form: str, labels: Any = LABELS, equal: bool = False, **settings: Any) -> tuple[DenseDPO, PairBatch]:
    """A module on random velocities near the targets, with a batch."""
    batch = pair_batch(labels, form=form)
    target = velocity_target(torch.cat([batch.first, batch.second]), torch.cat([batch.noise] * 2))
    generator = torch.Generator().manual_seed(1)
    reference, policy = (target + 0.3 * torch.randn(target.shape, generator=generator) for _ in range(2))
    module = dense_module(TableFlow(reference.clone() if equal else policy, reference), **FORMS[form], **settings)
    return module, referenced(module, batch)


def velocities(module: DenseDPO) -> Any:
    return module.policy.velocities  # type: ignore[attr-defined]


def test_the_published_whole_video_loss_and_gradients_come_out_of_the_module() -> None:
    module, batch = golden_case(float(sum(label != 0 for label in FLOW["label"])), FLOW["label"], granularity="whole")
    loss = total(module, batch)
    assert loss.item() == pytest.approx(FLOW["loss"], rel=1e-10)
    assert module.terms(batch)["preference"].values.mean().item() == pytest.approx(FLOW["loss"], rel=1e-10)
    loss.backward()
    torch.testing.assert_close(velocities(module).grad, golden_gradient(FLOW), rtol=1e-10, atol=1e-12)


def test_both_videos_get_the_published_noisy_latents_in_one_forward() -> None:
    module, batch = golden_case(2.0, FLOW["label"], granularity="whole")
    asked = module.policy.asked  # type: ignore[attr-defined]
    asked.clear()
    module.terms(batch)
    ((noisy, t, prompts),) = asked
    torch.testing.assert_close(noisy, torch.cat([golden_video("xt0"), golden_video("xt1")]), rtol=1e-12, atol=1e-12)
    assert t.tolist() == FLOW["t"] * 2
    assert len(prompts) == len(noisy) == 2 * len(batch.keys)


def test_the_published_dense_loss_and_gradients_come_out_of_the_module() -> None:
    labels = DENSE["frame"]["labels"]
    module, batch = golden_case(float(sum(label != 0 for row in labels for label in row)), labels)
    loss = total(module, batch)
    assert loss.item() == pytest.approx(DENSE["frame"]["loss"], rel=1e-10)
    loss.backward()
    torch.testing.assert_close(velocities(module).grad, golden_gradient(DENSE["frame"]), rtol=1e-10, atol=1e-12)


def test_the_published_equation_7_comes_out_of_the_module() -> None:
    expected = DENSE["segments"]
    labels, segments = expected["labels_expanded_to_latents"], expected["seg_of_latent"]
    pairs = float(sum(any(row) for row in labels))
    module, batch = golden_case(pairs, labels, segments, form="per_video")
    assert total(module, batch).item() == pytest.approx(expected["eq7_half1"]["loss"], rel=1e-10)


def test_errors_of_the_noise_are_the_published_beta_that_falls_with_time() -> None:
    pairs = float(sum(label != 0 for label in FLOW["label"]))
    module, batch = golden_case(pairs, FLOW["label"], granularity="whole", error_of="noise")
    assert total(module, batch).item() == pytest.approx(FLOW["time_dependent_beta"]["loss"], rel=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_rewards_are_of_the_noise_where_the_loss_is_and_logged_errors_of_the_velocity(form: str) -> None:
    module, batch = table(form, error_of="noise")
    term, plain = module.terms(batch)["preference"], table(form)[0].terms(batch)["preference"]
    torch.testing.assert_close(term.values, torch.nn.functional.softplus(term.rejected_rewards - term.chosen_rewards))
    shares = (1 - batch.t).square()[torch.tensor(term.samples)]
    torch.testing.assert_close(term.chosen_rewards, shares * plain.chosen_rewards)
    assert torch.equal(term.winner_errors, plain.winner_errors)  # type: ignore[attr-defined]


def test_errors_are_of_what_the_family_predicts() -> None:
    policy = TableFlow(torch.zeros(1), torch.zeros(1))
    assert DenseDPO(policy).error_of == "velocity"
    policy.prediction = "noise"
    assert DenseDPO(policy).error_of == "noise"
    assert DenseDPO(policy, error_of="velocity").error_of == "velocity"


@pytest.mark.parametrize("form", FORMS)
def test_policy_equal_to_reference_costs_log_two_a_draw(form: str) -> None:
    module, batch = table(form, equal=True)
    assert total(module, batch).item() == pytest.approx(math.log(2), abs=1e-6)
    term = module.terms(batch)["preference"]
    assert term.draw == 0.5
    assert term.chosen_rewards is not None
    assert not term.chosen_rewards.any()


@pytest.mark.parametrize("form", FORMS)
def test_swapping_the_videos_and_negating_the_labels_changes_nothing(form: str) -> None:
    module, batch = table(form)
    swapped = pair_batch([[-label for label in row] for row in LABELS], form=form)
    swapped.first, swapped.second = batch.second, batch.first
    policy = TableFlow(velocities(module).detach().roll(len(LABELS), 0), module.policy.reference.roll(len(LABELS), 0))
    mirrored = dense_module(policy, **FORMS[form])
    referenced(mirrored, swapped)
    assert total(module, batch).item() == pytest.approx(total(mirrored, swapped).item(), rel=1e-6)
    mine, theirs = module.terms(batch)["preference"], mirrored.terms(swapped)["preference"]
    torch.testing.assert_close(mine.chosen_rewards, theirs.chosen_rewards)
    torch.testing.assert_close(mine.winner_errors, theirs.winner_errors)  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", FORMS)
def test_ties_have_a_gradient_of_exactly_zero(form: str) -> None:
    module, batch = table(form, supervised_weight=0.5)
    total(module, batch).backward()
    labels = batch.labels if form != "whole" else batch.preference[:, None].expand_as(batch.labels)
    ties = torch.cat([labels == 0] * 2)
    gradient = velocities(module).grad.abs().amax(dim=(1, 3, 4))
    assert (gradient[ties] == 0).all()
    assert (gradient[~ties] > 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_only_ties_are_exactly_nothing_with_a_graph(form: str) -> None:
    module, batch = table(form, [[0, 0, 0]] * 2, supervised_weight=0.5)
    assert set(batch.denominators.values()) == {1.0}
    loss = total(module, batch)
    loss.backward()
    assert loss.item() == 0
    assert velocities(module).grad is not None
    assert not velocities(module).grad.any()


def test_a_masked_pair_counts_nowhere() -> None:
    module = dense_module(TableFlow(torch.randn(8, *SHAPE), torch.randn(8, *SHAPE)), supervised_weight=1.0)
    batch = referenced(module, pair_batch(LABELS, masked=[0]))
    terms = module.terms(batch)
    assert set(terms["preference"].samples) == set(terms["supervised"].samples) == {2, 3}
    assert len(terms["preference"].values) == 4 + 5 == batch.denominators["preference"]


@pytest.mark.parametrize("form", FORMS)
def test_rewards_and_errors_are_those_of_the_better_and_the_worse_video(form: str) -> None:
    module, batch = table(form)
    term = module.terms(batch)["preference"]
    assert isinstance(term, FlowTerm)
    margins = term.chosen_rewards - term.rejected_rewards
    torch.testing.assert_close(term.values, torch.nn.functional.softplus(-margins))
    assert torch.equal(term.times, batch.t[torch.tensor(term.samples)])
    # Pair 3: the second video is the better one, throughout.
    policy = module.scores(batch)
    gap = {name: (getattr(policy, name) - getattr(batch.reference, name))[3] for name in ("first", "second")}
    torch.testing.assert_close(term.winner_errors[-5:], gap["second"])
    torch.testing.assert_close(term.loser_errors[-5:], gap["first"])
    scale = {"per_frame": -25.0 * gap["second"], "whole": -25.0 * gap["second"].mean()[None]}
    scale["per_video"] = (
        -50.0 * torch.stack([gap["second"][video == SEGMENTS].mean() for video in range(3)]).sum()[None]
    )
    torch.testing.assert_close(term.chosen_rewards[-len(scale[form]) :], scale[form])
    assert not any(values.requires_grad for values in (term.chosen_rewards, term.rejected_rewards, term.winner_errors))
    assert not term.detach().values.requires_grad


def test_the_supervised_term_is_the_better_videos_velocity_error() -> None:
    module, batch = table("per_frame", [[1, 0, -1]], supervised_weight=0.5)
    target = velocity_target(torch.cat([batch.first, batch.second]), torch.cat([batch.noise] * 2))
    first, second = frame_errors(velocities(module), target)
    term = module.terms(batch)["supervised"]
    torch.testing.assert_close(term.values, torch.cat([first[:2], second[4:]]))
    assert term.chosen_rewards is None
    parts = module.weighted(module.terms(batch), batch)
    torch.testing.assert_close(total(module, batch), parts["preference"] + 0.5 * term.values.mean())

    module, batch = table("whole", [[-1, 0, -1], [0, 0, 0]], supervised_weight=0.5)
    target = velocity_target(torch.cat([batch.first, batch.second]), torch.cat([batch.noise] * 2))
    errors = frame_errors(velocities(module), target)
    torch.testing.assert_close(module.terms(batch)["supervised"].values, errors[2].mean()[None])


@pytest.mark.parametrize(
    ("settings", "items"),
    [
        ({}, {"preference": "decided_frames"}),
        ({"form": "per_video"}, {"preference": "decided_pairs"}),
        ({"granularity": "whole"}, {"preference": "decided_videos"}),
        ({"supervised_weight": 0.1}, {"preference": "decided_frames", "supervised": "decided_frames"}),
        (
            {"granularity": "whole", "supervised_weight": 1},
            {"preference": "decided_videos", "supervised": "decided_videos"},
        ),
    ],
)
def test_denominators_count_what_the_terms_hold(settings: dict[str, Any], items: dict[str, str]) -> None:
    assert dense_module(**settings).items() == items


def test_a_scheduled_term_is_in_use_although_its_weight_is_zero_now() -> None:
    module, batch = table("per_frame")
    module.scheduled.add("supervised")
    assert module.items().keys() == module.terms(batch).keys() == {"preference", "supervised"}


@pytest.mark.parametrize(("form", "function"), [("per_frame", "dense"), ("per_video", "dense"), ("whole", "flow")])
def test_a_step_trains_on_the_function_that_holds_the_published_values(
    monkeypatch: pytest.MonkeyPatch, form: str, function: str
) -> None:
    """Whatever the function of the golden tests gives is what the step weighs; nothing repeats its formula."""
    module, batch = table(form)
    before = total(module, batch)
    name = f"{function}_dpo_loss"
    original = getattr(flow, name)
    assert getattr(dense_dpo, name) is original
    monkeypatch.setattr(dense_dpo, name, lambda *args, **settings: 3.0 * original(*args, **settings))
    torch.testing.assert_close(total(module, batch), 3.0 * before)


def test_without_a_reference_the_error_names_the_callback() -> None:
    with pytest.raises(ValueError, match=r"callbacks\.ReferenceModel"):
        dense_module().terms(pair_batch())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.0}, "the paper's is 500"),
        ({"granularity": "whole", "form": "per_video"}, "form per_video is one of segments"),
        ({"supervised_weight": -1.0}, "negative term weights"),
        ({"warmup": 1.5}, "warmup is 1.5"),
        ({"warmup": 1}, "warmup is 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dense_module(**settings)


def test_errors_stay_in_float32_whatever_the_policy_computes_in() -> None:
    module = dense_module(TableFlow(torch.randn(8, *SHAPE).bfloat16(), torch.randn(8, *SHAPE).bfloat16()))
    batch = pair_batch()
    scores = module.scores(batch)
    assert isinstance(scores, FlowErrors)
    assert {scores.first.dtype, scores.second.dtype} == {torch.float32}
    exact = frame_errors(velocities(module).float()[:4], velocity_target(batch.first, batch.noise))
    torch.testing.assert_close(scores.first, exact)
    noisy = module.policy.asked[0][0]  # type: ignore[attr-defined]
    torch.testing.assert_close(noisy[:4], interpolate(batch.first, batch.noise, batch.t))


def note(events: list[str], _module: Any, _inputs: Any, velocity: Tensor) -> None:
    """Write down a forward, and when backward comes to it."""
    events.append("forward")
    if velocity.requires_grad:
        velocity.register_hook(lambda _gradient: events.append("backward"))


def test_videos_in_turn_have_the_same_loss_and_gradients_with_the_activations_of_one() -> None:
    """Of the pair's first video nothing is kept: it is computed once more when backward is through the second."""
    gradients, passes = [], []
    events: list[str] = []
    for videos in ("together", "in_turn"):
        policy = TinyFlow(start=0.3)
        policy.load()
        module = dense_module(policy, videos=videos)
        batch = referenced(module, pair_batch())
        policy.passes.clear()
        policy.register_forward_hook(partial(note, events))
        events.clear()
        total(module, batch).backward()
        gradients.append({name: value.grad for name, value in policy.named_parameters() if value.grad is not None})
        passes.append(list(policy.passes))
    torch.testing.assert_close(gradients[1], gradients[0])
    assert any(gradient.abs().max() > 0 for gradient in gradients[0].values())
    assert passes == [[8], [4, 4, 4]]
    assert events == ["forward", "forward", "backward", "forward", "backward"]
