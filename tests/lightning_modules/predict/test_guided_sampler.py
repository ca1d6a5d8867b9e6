"""Guided pairs: where denoising starts, and that its first level is that of the latents."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.policies.euler import guided_sigmas
from lightning_modules.predict.guided_sampler import guided_latents
from tests.support.goldens import golden

GOLDEN = golden("dense_4_guided")


def shifted(level: float, shift: float) -> float:
    return shift * level / (1 + (shift - 1) * level)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"eta {case['eta']}")
def test_both_videos_start_at_the_published_latents(case: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    for noise, expected in (("eps0", "x0_n"), ("eps1", "x1_n")):
        clean, own_noise, target = (
            torch.tensor(values, dtype=dtype) for values in (GOLDEN["x"], GOLDEN[noise], case[expected])
        )
        torch.testing.assert_close(
            guided_latents(clean, own_noise, case["eta"]), target, atol=tolerance, rtol=tolerance
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pure_noise_keeps_nothing_of_the_video(dtype: torch.dtype) -> None:
    clean, noise = torch.randn(2, 2, 3, 2, 2, 2).to(dtype)
    latents = guided_latents(clean, noise, 1.0)
    assert latents.dtype == dtype
    assert torch.equal(latents, noise)


@pytest.mark.parametrize("case", GOLDEN["schedule"], ids=lambda case: f"{case['N']} {case['shift']} {case['eta']}")
def test_steps_are_the_published_schedules(case: dict[str, Any]) -> None:
    sigmas = guided_sigmas(case["N"], case["eta"], case["shift"])
    assert sigmas[0].item() == case["eta"], "the noise of the latents and the first step must agree"
    assert sigmas[-1].item() == 0
    # Published: the schedule's first level not above eta, and how many steps there are from it.
    starts_on_the_schedule = case["that_sigma"] == pytest.approx(case["eta"], abs=1e-12)
    assert sigmas[0 if starts_on_the_schedule else 1].item() == pytest.approx(case["that_sigma"], abs=1e-12)
    remaining = len(sigmas) - 1 - (not starts_on_the_schedule)
    assert remaining == case["nfe_if_start_at_first_sigma_le_eta"]
    assert sigmas[1:].tolist() == pytest.approx(
        [shifted(i / case["N"], case["shift"]) for i in range(case["nfe_if_start_at_first_sigma_le_eta"], -1, -1)][
            starts_on_the_schedule:
        ],
        abs=1e-12,
    )


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(1, 60), st.floats(0.01, 1), st.floats(0.2, 12))
def test_levels_fall_from_eta_to_zero_and_never_stand_still(num_steps: int, eta: float, shift: float) -> None:
    sigmas = guided_sigmas(num_steps, eta, shift)
    assert sigmas[0].item() == eta
    assert sigmas[-1].item() == 0
    assert (sigmas.diff() < 0).all()
    levels = [shifted(i / num_steps, shift) for i in range(num_steps)]
    assert len(sigmas) - 1 == sum(level < eta * (1 - 1e-9) for level in levels)


def test_pure_noise_takes_the_full_schedule() -> None:
    assert guided_sigmas(4, 1.0).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert guided_sigmas(2, 1.0, shift=3.0).tolist() == [1, 0.75, 0]


def test_a_level_that_meets_eta_by_arithmetic_is_no_step_of_its_own() -> None:
    eta = shifted(17 / 40, 5.66) * (1 + 1e-15)
    assert len(guided_sigmas(40, eta, 5.66)) - 1 == 17


@pytest.mark.parametrize("shift", [1.0, 5.66])
def test_the_exact_velocity_leads_back_to_the_video(shift: float) -> None:
    clean, noise = torch.tensor(GOLDEN["x"]).double(), torch.tensor(GOLDEN["eps0"]).double()
    sigmas = guided_sigmas(GOLDEN["euler"]["N"], GOLDEN["euler"]["eta"], shift)
    latents = guided_latents(clean, noise, GOLDEN["euler"]["eta"])
    for level, following in pairwise(sigmas):
        latents = latents + (following - level) * (noise - clean)
    torch.testing.assert_close(latents, clean, atol=1e-14, rtol=0)


@pytest.mark.parametrize("eta", [0.0, -0.1, 1.0001, float("nan")])
def test_a_level_that_is_none_is_refused(eta: float) -> None:
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        guided_sigmas(40, eta)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        guided_latents(torch.zeros(1, 1), torch.zeros(1, 1), eta)


@pytest.mark.parametrize(("num_steps", "shift"), [(0, 1.0), (40, 0.0), (40, -3.0)])
def test_a_schedule_that_is_none_is_refused(num_steps: int, shift: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        guided_sigmas(num_steps, 0.75, shift)
