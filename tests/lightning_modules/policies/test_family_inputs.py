"""What families are given: frames and what is seen of them, budgets, templates, and faulty checkpoints."""

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
from safetensors.torch import load_file, save_file

from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from datamodules.vista.facts import SampleFacts
from datamodules.vista.index_facts import vista_facts
from datamodules.vista.object_negatives import ObjectNegative, RandomCrop, RoiBlur, RoiMask, RoiMove
from datamodules.vista.samples import Box, PreferenceRow, View
from datamodules.vista.views import Negatives, Partner, ViewMaker
from datamodules.vista.visible import VisibleRegions
from lightning_modules.policies.any_video_llm import AnyVideoLLM
from lightning_modules.policies.llava_video import LlavaVideoPolicy
from lightning_modules.policies.pllava import PROMPTS, PllavaPolicy
from lightning_modules.policies.pllava_weights import merged_weights
from lightning_modules.policies.qwen_vl import QwenVLPolicy
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support.family_cases import (
    ALPHA,
    FAMILIES,
    FAMILY_PARAMS,
    TEMPLATED,
    checkpoint,
    family_views,
    loaded,
    make_policy,
)
from tests.support.slow_params import slow_but

HEIGHT, WIDTH = 64, 160
#: Families whose processors cut the borders of wide frames away.
CROPPING = ("llava_next_video", "pllava", "video_llava")
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
    maker = ViewMaker(NEEDS, Negatives(object=negative), 4, seed=0, visible=visible)  # type: ignore[arg-type]
    levels = maker.negatives.levels(visible.seen(facts))
    return maker(row, facts, levels, video, 0, no_partner)


def tower_pixels(policy: Any, view: View) -> torch.Tensor:
    """What the tower is shown of a view."""
    prefix = policy.prefix(view, "here")
    if "frames" in prefix.inputs:
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


@pytest.mark.parametrize("kind", slow_but(("qwen2_5_vl", "gemma4"), BUDGETS))
def test_pixel_budgets_bound_what_is_shown_and_are_pinned(kind: str, folder: Path) -> None:
    """Tokens, or where these are fixed the pixels, follow the budget, and a cached score carries it."""
    usual_facts, settings, other_facts = BUDGETS[kind]
    path, view = checkpoint(kind, folder), family_views()[0]
    view = replace(view, frames=view.frames.repeat(2, 1, 1, 1), times=torch.arange(8) * 0.5)
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


def test_a_clip_of_irregular_times_is_told_as_it_is(policy_of: Callable[[str], Any]) -> None:
    policy, view = policy_of("qwen3_vl"), family_views()[0]
    prefix = policy.prefix(replace(view, times=torch.tensor([0.0, 1.0, 7.0, 8.2])), "here")
    text = policy.processor.tokenizer.decode(prefix.ids)
    assert "<0.5 seconds>" in text
    assert "<7.6 seconds>" in text


# PLLaVA


def test_pllava_needs_its_scale_and_merges_by_it(folder: Path) -> None:
    path = str(checkpoint("pllava", folder))
    with pytest.raises(ValueError, match=r"a LoRA whose scale is in no file; set policy.lora_alpha"):
        PllavaPolicy(path)
    tensors = load_file(Path(path) / "model.safetensors")
    prefix = "language_model.base_model.model.model.layers.1.self_attn.v_proj"
    update = tensors[f"{prefix}.lora_B.default.weight"] @ tensors[f"{prefix}.lora_A.default.weight"]
    merged = merged_weights(path, None, ALPHA, torch.float32)
    own = merged["model.language_model.layers.1.self_attn.v_proj.weight"]
    torch.testing.assert_close(own, tensors[f"{prefix}.base_layer.weight"] + ALPHA / 4 * update)
    right, wrong = (loaded(folder / "pllava", lora=None, lora_alpha=alpha) for alpha in (ALPHA, 32.0))
    views = family_views()
    with torch.no_grad():
        scores = [one.score(one.encode(views)).log_probs for one in (right, wrong)]
    assert (scores[0] - scores[1]).abs().max() > 0.1


def test_pllava_without_its_language_model_needs_a_base(folder: Path, tmp_path: Path) -> None:
    whole = checkpoint("pllava", folder)
    shutil.copytree(whole, tmp_path / "pllava")
    tensors = load_file(whole / "model.safetensors")
    trained = {name: one for name, one in tensors.items() if "lora_" in name or "projector" in name}
    save_file(trained, tmp_path / "pllava" / "model.safetensors")
    with pytest.raises(ValueError, match=r"no weights of a language model \(no `base_layer` keys\)"):
        make_policy(tmp_path / "pllava")
    base = {name: one for name, one in tensors.items() if "lora_" not in name}
    (tmp_path / "base").mkdir()
    save_file(base, tmp_path / "base" / "model.safetensors")
    views, ours = family_views(), loaded(tmp_path / "pllava", lora=None, base=str(tmp_path / "base"))
    with torch.no_grad():
        scores = [one.score(one.encode(views)).log_probs for one in (ours, loaded(whole, lora=None))]
    assert torch.equal(*scores)


def test_a_file_of_older_peft_reads_the_same(folder: Path, tmp_path: Path) -> None:
    """`q_proj.weight` beside the LoRA's factors, in the place of `q_proj.base_layer.weight`."""
    whole = checkpoint("pllava", folder)
    shutil.copytree(whole, tmp_path / "pllava")
    tensors = {name.replace(".base_layer.", "."): one for name, one in load_file(whole / "model.safetensors").items()}
    save_file(tensors, tmp_path / "pllava" / "model.safetensors")
    one, other = (merged_weights(str(path), None, ALPHA, torch.float32) for path in (whole, tmp_path / "pllava"))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_an_incomplete_pllava_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint("pllava", folder), tmp_path / "pllava")
    tensors = load_file(tmp_path / "pllava" / "model.safetensors")
    del tensors["multi_modal_projector.linear_2.weight"]
    save_file(tensors, tmp_path / "pllava" / "model.safetensors")
    policy = make_policy(tmp_path / "pllava")
    with pytest.raises(ValueError, match=r"1 tensors do not fit, as model.multi_modal_projector.linear_2.weight"):
        policy.load()


@pytest.mark.parametrize("name", PROMPTS)
def test_pllavas_prompts_hold_question_and_video_once(name: str, folder: Path) -> None:
    policy = make_policy(checkpoint("pllava", folder), prompt_template=name)
    ids = policy.chat.prompt_ids("what moves?", "here")
    assert ids.count(policy.video_token_id) == 4 * 3 * 3
    text = policy.processor.tokenizer.decode([index for index in ids if index != policy.video_token_id])
    assert text == PROMPTS[name].replace("<image>", "").replace("{question}", "what moves?")
    assert PROMPTS[name].endswith("{question} ASSISTANT:")
    # A later turn has neither the video nor the system text again.
    turns = (("what is it?", "a ball"),)
    ids = policy.chat.prompt_ids("what moves?", "here", turns)
    text = policy.processor.tokenizer.decode([index for index in ids if index != policy.video_token_id])
    first = PROMPTS[name].replace("<image>", "").replace("{question}", "what is it?")
    end = policy.processor.tokenizer.eos_token
    assert text.replace(" ", "") == f"{first}a ball{end}USER: what moves? ASSISTANT:".replace(" ", "")


def test_pllava_exports_a_whole_model_that_it_reads(folder: Path, tmp_path: Path) -> None:
    policy, views = loaded(checkpoint("pllava", folder), lora=None), family_views()
    policy.export(tmp_path / "pllava")
    again = PllavaPolicy(str(tmp_path / "pllava"))  # without a LoRA of its own, it needs no scale
    again.load()
    with torch.no_grad():
        assert torch.equal(*(one.score(one.encode(views)).log_probs for one in (policy, again)))


def test_a_short_video_repeats_its_frames(policy_of: Callable[[str], Any]) -> None:
    policy, view = policy_of("pllava"), family_views()[0]
    short, repeated = (replace(view, frames=view.frames[index]) for index in ([0, 1], [0, 0, 0, 1]))
    with torch.no_grad():
        scores = policy.score(policy.encode([short, repeated])).log_probs
    assert torch.equal(scores[:3], scores[3:])  # repeated three times each, then cut


# Checkpoints that are none of the family


@pytest.mark.parametrize(
    ("family", "kind", "message"),
    [
        (QwenVLPolicy, "pllava", "holds a pllava model, this policy takes .*; PllavaPolicy takes it"),
        (QwenVLPolicy, "internvl", "holds a internvl model, this policy takes .*; LlavaVideoPolicy takes it"),
        (VideoLlavaPolicy, "qwen3_vl", "holds a qwen3_vl model, this policy takes video_llava ones; QwenVLPolicy"),
        (LlavaVideoPolicy, "qwen3_5", "holds a qwen3_5 model, this policy takes .* ones$"),
        (PllavaPolicy, "internvl", "holds a internvl model, this policy takes pllava ones"),
        (AnyVideoLLM, "qwen3_vl", "holds a qwen3_vl model, for which QwenVLPolicy is made; use that"),
        (AnyVideoLLM, "pllava", "PllavaPolicy"),
    ],
)
def test_a_checkpoint_of_another_family_is_refused(family: Any, kind: str, message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        family(str(checkpoint(kind, folder)))
    assert "\n" not in str(raised.value)


def test_an_unknown_model_type_is_no_missing_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "seer9"}')
    with pytest.raises(ValueError, match="holds a seer9 model, a model_type that this transformers does not know"):
        QwenVLPolicy(str(tmp_path))
    with pytest.raises(ValueError, match=r"no checkpoint at .*; give a folder or hub id with a config.json"):
        QwenVLPolicy(str(tmp_path / "absent"))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="holds a llama model, which transformers does not list among those that see"):
        AnyVideoLLM(str(tmp_path))


def test_a_checkpoint_without_a_chat_template_is_refused_before_its_weights(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint("internvl", folder), tmp_path / "internvl")
    (tmp_path / "internvl" / "chat_template.jinja").unlink()
    (tmp_path / "internvl" / "model.safetensors").unlink()
    policy = make_policy(tmp_path / "internvl")
    with pytest.raises(ValueError, match=r"no chat template; add the chat_template.jinja"):
        policy.load()


def test_targets_that_miss_a_block_are_refused(folder: Path) -> None:
    """The usual names reach one of four layers of Qwen3.5: the others are gated delta nets."""
    from lightning_modules.policies.adapters import LoraSettings

    targets = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)"
    policy = make_policy(checkpoint("qwen3_5", folder), lora=LoraSettings(r=2, targets=targets))
    with pytest.raises(ValueError, match="reaches 1 of 4 blocks"):
        policy.load()
