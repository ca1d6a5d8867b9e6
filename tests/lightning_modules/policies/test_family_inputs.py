"""What families are given: frames and what is seen of them, templates, and times."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from datamodules.vista.facts import SampleFacts
from datamodules.vista.frame_samplers import ViewFrames
from datamodules.vista.index_facts import vista_facts
from datamodules.vista.object_negatives import ObjectNegative, RandomCrop, RoiBlur, RoiMask, RoiMove
from datamodules.vista.samples import Box, PreferenceRow, View
from datamodules.vista.views import Negatives, Partner, ViewMaker
from datamodules.vista.visible import VisibleRegions
from tests.support.family_cases import (
    FAMILY_PARAMS,
    checkpoint,
    family_views,
    make_policy,
)

HEIGHT, WIDTH = 64, 160
#: Families whose processors cut the borders of wide frames away.
CROPPING = ("llava_next_video", "pllava", "video_llava")
NEEDS = {"object": ("chosen",), "object_negative": ("chosen",)}


def object_views(policy: Any, box: Box, negative: ObjectNegative) -> list[View]:
    """The object view and its negative on a noisy video; none where the policy does not see the box."""

    def no_partner(random: np.random.Generator) -> Partner:
        raise AssertionError("no other video is shown")

    frame = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    video = {"mp4": encode_mp4(frame[None].repeat(4, 1, 1, 1), 2.0, lossless=True)}
    row = PreferenceRow("a", "v", "What?", "A.", "B.", VideoFacts(4, 2.0, WIDTH, HEIGHT), boxes=(box,))
    facts = SampleFacts.from_index("a", vista_facts(row))
    visible = VisibleRegions.of(policy.visible, policy.frame_fit, [facts])
    maker = ViewMaker(NEEDS, Negatives(object=negative), ViewFrames(4), seed=0, visible=visible)  # type: ignore[arg-type]
    levels = maker.negatives.levels(visible.seen(facts))
    return maker(row, facts, levels, video, 0, no_partner)


def tower_pixels(policy: Any, view: View) -> torch.Tensor:
    """What the tower is shown of a view."""
    prefix = policy.prefix(view, "here")
    if not prefix.inputs:
        return policy.pixels([prefix])[0]
    return next(value for name, value in prefix.inputs.items() if name.startswith("pixel_values"))


@pytest.mark.parametrize(
    "negative", [RoiMove(), RoiMask(), RoiBlur(), RandomCrop()], ids=lambda one: type(one).__name__
)
@pytest.mark.parametrize("kind", FAMILY_PARAMS)
def test_an_object_negative_differs_in_what_the_tower_sees(
    kind: str, negative: ObjectNegative, policy_of: Callable[[str], Any]
) -> None:
    policy = policy_of(kind)
    positive, other = object_views(policy, Box(70.0, 20.0, 20.0, 20.0), negative)
    assert positive.times is not None
    assert positive.times.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert torch.equal(positive.times, other.times)
    assert not torch.equal(tower_pixels(policy, positive), tower_pixels(policy, other))
    seen = policy.visible(HEIGHT, WIDTH)
    left, right = round(seen.x), round(seen.x + seen.width)
    assert (left, right) == ((48, 112) if kind in CROPPING else (0, WIDTH))
    for columns in (slice(0, left), slice(right, None)):  # nothing happens where nobody looks
        assert torch.equal(positive.frames[..., columns], other.frames[..., columns])
    # A box at the border is seen or takes no part.
    assert len(object_views(policy, Box(0.0, 20.0, 20.0, 20.0), negative)) == (0 if kind in CROPPING else 2)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "gemma4", "llava_onevision"])
def test_a_processor_that_makes_other_tokens_is_told_apart(kind: str, folder: Path, tmp_path: Path) -> None:
    before = make_policy(checkpoint(kind, folder)).processor_facts()
    shutil.copytree(folder / kind, tmp_path / kind)
    file = tmp_path / kind / "processor_config.json"
    content = json.loads(file.read_text())
    if kind == "gemma4":
        content["video_processor"]["max_soft_tokens"] = 140
    elif kind == "llava_onevision":
        content["num_image_tokens"] = 25
    else:
        content["video_processor"]["size"]["longest_edge"] *= 4
    file.write_text(json.dumps(content))
    assert make_policy(tmp_path / kind).processor_facts()["video_tokens"] != before["video_tokens"]


def test_thinking_is_off_unless_asked_for(policy_of: Callable[[str], Any], folder: Path) -> None:
    policy, thinking = policy_of("qwen3_5"), make_policy(checkpoint("qwen3_5", folder), enable_thinking=True)
    view = family_views()[0]
    texts = ["".join(one.chat.parts(view, one.processor_options(view, ""))[0]) for one in (policy, thinking)]
    assert [text.count("THOUGHT") for text in texts] == [0, 1]
    assert texts[1].endswith("THOUGHT")


@pytest.mark.parametrize("kind", ["qwen3_5", "llava_next_video"])  # whose template names the variable, and does not
def test_nothing_is_said_of_a_template_without_thinking(
    kind: str, policy_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("transformers.processing_utils.logger.warning", lambda text, *_: warnings.append(text))
    policy, view = policy_of(kind), family_views()[0]
    policy.chat.parts(view, policy.processor_options(view, ""))
    assert warnings == []


def test_a_clip_of_irregular_times_is_told_as_it_is(policy_of: Callable[[str], Any]) -> None:
    policy, view = policy_of("qwen3_vl"), family_views()[0]
    prefix = policy.prefix(replace(view, times=torch.tensor([0.0, 1.0, 7.0, 8.2])), "here")
    text = policy.processor.tokenizer.decode(prefix.ids)
    assert "<0.5 seconds>" in text
    assert "<7.6 seconds>" in text
