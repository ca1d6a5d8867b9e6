"""Pixel budgets: bounds of what is shown, pinned in what a cached reference was made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.policies.pllava import PllavaPolicy
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support.family_cases import FAMILIES, TEMPLATED, checkpoint, family_views, make_policy
from tests.support.slow_params import slow_but

#: Family -> the checkpoint's budget, another one, and that one as it is pinned.
BUDGETS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "qwen2_vl": (
        {"min_pixels": 784, "max_pixels": 3136, "cap_pixels_per_frame": False},
        {"max_pixels": 784},
        {"min_pixels": 784, "max_pixels": 784, "cap_pixels_per_frame": False},
    ),
    "qwen2_5_vl": (
        {"min_pixels": 784, "max_pixels": 3136, "cap_pixels_per_frame": False},
        {"max_pixels": 784},
        {"min_pixels": 784, "max_pixels": 784, "cap_pixels_per_frame": False},
    ),
    "qwen3_vl": (
        {"min_pixels": 1024, "max_pixels": 16384, "cap_pixels_per_frame": False},
        {"max_pixels": 65536},
        {"min_pixels": 1024, "max_pixels": 65536, "cap_pixels_per_frame": False},
    ),
    "qwen3_5": (
        {"min_pixels": 1024, "max_pixels": 16384, "cap_pixels_per_frame": False},
        {"max_pixels": 65536, "cap_pixels_per_frame": True},
        {"min_pixels": 1024, "max_pixels": 65536, "cap_pixels_per_frame": True},
    ),
    "glm46v": (
        {"min_pixels": 784, "max_pixels": 12544},
        {"max_pixels": 62720},
        {"min_pixels": 784, "max_pixels": 62720},
    ),
    "glm4v": (
        {"min_pixels": 784, "max_pixels": 12544},
        {"max_pixels": 62720},
        {"min_pixels": 784, "max_pixels": 62720},
    ),
    # 70 tokens of 12 x 12 pixels; of numbers of tokens that the processor does not take, the next below.
    "gemma4": ({"max_pixels": 70 * 144}, {"max_pixels": 150 * 144}, {"max_pixels": 140 * 144}),
    "video_llama_3": (
        {"min_pixels": 784, "max_pixels": 12544},
        {"max_pixels": 62720},
        {"min_pixels": 784, "max_pixels": 62720},
    ),
    "smolvlm": ({"max_pixels": 1024}, {"max_pixels": 300}, {"max_pixels": 17 * 17}),
}
#: Families that show every frame at one size.
UNBOUNDED = ("llava_next_video", "llava_onevision", "internvl")


@pytest.mark.parametrize("kind", slow_but(("qwen2_5_vl", "gemma4"), BUDGETS))
def test_pixel_budgets_bound_what_is_shown_and_are_pinned(kind: str, folder: Path) -> None:
    """Tokens, or where these are fixed the pixels, follow the budget, and a cached score carries it."""
    usual_facts, settings, other_facts = BUDGETS[kind]
    path, view = checkpoint(kind, folder), family_views()[0]
    view = replace(view.with_frames(view.frames.repeat(2, 1, 1, 1)), times=torch.arange(8) * 0.5)
    usual, other = (make_policy(path, **given) for given in ({}, settings))
    for policy, facts in ((usual, usual_facts), (other, other_facts)):
        assert {name: value for name, value in policy.processor_facts().items() if name != "video_tokens"} == facts
        for name in ("min_pixels", "max_pixels", "cap_pixels_per_frame"):
            assert getattr(policy, name) == facts.get(name)
        assert policy.processor_options(view, "here").get("cap_pixels_per_frame") == facts.get("cap_pixels_per_frame")
    inputs = [policy.chat.parts(view, policy.processor_options(view, "here")) for policy in (usual, other)]
    few, more = (len(usual.chat.ids(template, [view.prompt], "here")) for template, _ in inputs)
    if kind == "smolvlm":
        assert few == more
        assert not torch.equal(*(made["pixel_values"] for _, made in inputs))
    else:
        assert few < more if other.max_pixels > usual.max_pixels else few > more
    with pytest.raises(ValueError, match=r"give 0 < min <= max|give 10080 at least"):
        make_policy(path, max_pixels=0)


@pytest.mark.parametrize(
    ("kind", "budget", "most_tokens", "free", "capped"),
    [
        # Eight frames in units of two, each unit 2 x 3 tokens. Qwen2: an even share of the pixels of 0.9 x 18 tokens.
        ("qwen2_vl", {"min_pixels": 784, "max_pixels": 6000}, 18, 4 * 6, 4 * 2),
        # Qwen3: the pixels of so many tokens a frame at most.
        ("qwen3_vl", {"min_pixels": 256, "max_pixels": 65536}, 2, 4 * 6, 4 * 1),
    ],
)
def test_a_cap_a_frame_leaves_fewer_tokens(
    kind: str, budget: dict[str, int], most_tokens: int, free: int, capped: int, folder: Path
) -> None:
    path, view = checkpoint(kind, folder), family_views()[0]
    view = replace(view.with_frames(view.frames.repeat(2, 1, 1, 1)), times=torch.arange(8) * 0.5)
    counts = []
    for cap in (False, True):
        policy = make_policy(path, cap_pixels_per_frame=cap, **budget)
        # The library's (128,000, of Qwen3 768 a frame) bind at lengths and sizes that no test decodes.
        policy.processor.video_processor.max_video_tokens = most_tokens
        template, _ = policy.chat.parts(view, policy.processor_options(view, "here"))
        counts.append(policy.chat.ids(template, [view.prompt], "here").count(policy.video_token_id))
    assert counts == [free, capped]


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        *((kind, name, "shows every frame at one size") for kind in UNBOUNDED for name in ("min_pixels", "max_pixels")),
        ("glm46v", "cap_pixels_per_frame", "Glm46VVideoProcessor has no such bound, it has min_pixels and max_pixels"),
        ("gemma4", "min_pixels", "Gemma4VideoProcessor has no such bound, it has max_pixels"),
        ("smolvlm", "min_pixels", "SmolVLMVideoProcessor has no such bound, it has max_pixels"),
    ],
)
def test_a_budget_that_a_processor_lacks_is_refused_by_name(kind: str, name: str, why: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=f"policy.{name} is 1: .*{why}$"):
        make_policy(checkpoint(kind, folder), **{name: 1})


def test_every_family_has_a_budget_or_refuses_one() -> None:
    assert {*BUDGETS, *UNBOUNDED, *TEMPLATED} == set(FAMILIES)
    for policy in (PllavaPolicy, VideoLlavaPolicy):
        with pytest.raises(TypeError, match="unexpected keyword argument 'max_pixels'"):
            policy("path", max_pixels=1)  # type: ignore[call-arg]
