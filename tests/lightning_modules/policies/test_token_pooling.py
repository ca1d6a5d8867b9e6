"""Averaged patch tokens: what is scored is the model's own forward on averaged features, in every family that pools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.vista.samples import View
from lightning_modules.policies.token_pooling import TokenPooling, pooled_tokens
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.policy_loading import settings_and_contents
from tests.support.family_cases import checkpoint, family_views, loaded, make_policy, native_inputs
from tests.support.slow_params import slow_but
from tests.support.tiny_video_llava import NUM_FRAMES, TOKENS_PER_FRAME
from tests.support.video_llava_cases import build_policy, unequal_views

#: Side of the squares that fill each tiny family's frame.
SIDES = {"video_llava": 2, "pllava": 3, "llava_onevision": 2, "llava_next_video": 2, "internvl": 2}
FIRST = {"video_llava": 1}  # the class token


def averaged(tokens: Tensor, side: int, first: int = 0) -> Tensor:
    """(T, P, D) -> averages over squares, one by one."""
    grid = isqrt(tokens.shape[1] - first)
    rows = []
    for frame in tokens:
        square = frame[first:].view(grid, grid, -1)
        means = [
            square[y : y + side, x : x + side].flatten(0, 1).mean(0)
            for y in range(0, grid, side)
            for x in range(0, grid, side)
        ]
        rows.append(torch.cat([frame[:first], torch.stack(means)]))
    return torch.stack(rows)


def test_neighbours_in_both_directions_are_averaged_and_the_first_tokens_stay() -> None:
    tokens = torch.arange(2 * 17 * 3, dtype=torch.float64).view(2, 17, 3)
    for side in (1, 2, 4):
        assert torch.equal(pooled_tokens(tokens, 4, 4, side, first=1), averaged(tokens, side, first=1))
    assert pooled_tokens(tokens, 4, 4, 2, first=1)[0, 1, 0] == (3 * (1 + 2 + 5 + 6)) / 4
    wide = torch.arange(8.0).view(1, 8, 1)  # two rows of four
    assert pooled_tokens(wide, 2, 4, 2)[0, :, 0].tolist() == [2.5, 4.5]


@pytest.mark.parametrize("kind", slow_but(("video_llava", "llava_onevision"), tuple(SIDES)))
def test_scores_equal_the_models_own_forward_on_averaged_features(kind: str, folder: Path) -> None:
    """The video's views pooled, the object's not; packed and deduplicated here, one sequence at a time there."""
    side = SIDES[kind]
    policy = loaded(checkpoint(kind, folder), token_pooling=TokenPooling(video=side))
    plain = loaded(checkpoint(kind, folder))
    views = family_views(kind)
    with torch.no_grad():
        ours = policy.score(policy.encode(views)).log_probs
        own = own_log_probs(kind, plain, views, side)
        unpooled = plain.score(plain.encode(views)).log_probs
    assert (ours - own).abs().max() <= 1e-5 * own.abs().max()
    assert (ours[:6] - unpooled[:6]).abs().min() > 1e-4
    torch.testing.assert_close(ours[6:], unpooled[6:])
    assert abs(ours[0] - ours[3]) > 1e-3, "the same answer under the reversed video"


def own_log_probs(kind: str, policy: Any, views: list[View], side: int) -> Tensor:
    """(A,) of every answer by transformers' forward on finished embeddings, in which this test has put averages."""
    values, embed = [], policy.base.get_input_embeddings()
    for view in views:
        factor = 1 if view.name == "object" else side
        features = own_features(kind, policy, view, factor)
        prompt = own_prompt(kind, policy, view, factor)
        assert prompt.count(policy.video_token_id) == len(features)
        for answer in view.answers.values():
            ids = [*prompt, *policy.answer_ids(answer, "here")]
            sequence = torch.tensor([ids[:-1]])
            embeds = embed(sequence).clone()
            embeds[sequence == policy.video_token_id] = features
            logits = policy.base(inputs_embeds=embeds, attention_mask=torch.ones_like(sequence)).logits[0]
            places = torch.arange(len(prompt) - 1, len(ids) - 1)
            values.append(logits.log_softmax(-1)[places, torch.tensor(ids[len(prompt) :])].sum())
    return torch.stack(values)


def own_features(kind: str, policy: Any, view: View, side: int) -> Tensor:
    """(n, D) of transformers' own tower and projector, averaged."""
    model = policy.base.model
    if kind == "pllava":
        prefixes = [policy.prefix(view, "here")]
        (features,) = policy.see(prefixes)  # the release's own pooling has tests of its own
        return averaged(features.unflatten(0, (4, -1)), side).flatten(0, 1)
    inputs = native_inputs(policy, view)
    if kind == "internvl":
        features = model.get_image_features(inputs["pixel_values"], return_dict=True).pooler_output
        return averaged(features, side).flatten(0, 1)
    features = model.get_video_features(inputs["pixel_values_videos"], return_dict=True).pooler_output
    features = torch.cat([part.flatten(0, -2) for part in features])
    breaks = 1 if kind == "llava_onevision" else 0
    cut = len(features) - breaks
    frames = features[:cut].unflatten(0, (len(view.frames), -1))
    return torch.cat([averaged(frames, side, FIRST.get(kind, 0)).flatten(0, 1), features[cut:]])


def own_prompt(kind: str, policy: Any, view: View, side: int) -> list[int]:
    """The processor's ids with as many placeholders as there are averages."""
    ids = policy.prefix(view, "here").ids if kind == "pllava" else native_inputs(policy, view)["input_ids"][0].tolist()
    token, frames = policy.video_token_id, 4 if kind == "pllava" else len(view.frames)
    total, first, breaks = ids.count(token), FIRST.get(kind, 0), 1 if kind == "llava_onevision" else 0
    each = (total - breaks) // frames
    kept = first + (each - first) // side**2
    # Of each frame's placeholders the first ones stay, wherever they are.
    seen, cut = 0, []
    for index in ids:
        keep = index != token or seen % each < kept or seen >= each * frames
        seen += index == token
        cut += [index] if keep else []
    return cut


def test_generate_pools_as_the_views_of_the_whole_video(folder: Path) -> None:
    path, view = checkpoint("video_llava", folder), family_views("video_llava")[0]
    pooled = loaded(path, token_pooling=TokenPooling(video=2, clip=1, object=1))
    seen: list[int] = []
    pooled.base.model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    pooled.generate([view.prompt], [view.frames], 2)
    text = pooled.prompt_length(view.prompt, "here") - NUM_FRAMES * 2
    assert seen[0] == text + NUM_FRAMES * 2, "a class token and one average of four patches for each frame"


def test_each_level_is_pooled_by_its_own_side_and_the_references_clip_as_a_clip() -> None:
    pooling = TokenPooling(video=4, clip=2)
    frames = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    sides = {}
    for name in ("original", "video_negative", "clip", "clip_negative", "object", "object_negative"):
        sides[name] = pooling.of(View(0, name, frames, "", {}))  # type: ignore[arg-type]
    assert sides == {
        "original": 4, "video_negative": 4, "clip": 2, "clip_negative": 2, "object": 1, "object_negative": 1,
    }  # fmt: skip
    assert pooling.of(replace(View(0, "original", frames, "", {}), for_reference=True)) == 2


def test_views_of_unequal_length_are_scored_as_each_alone(checkpoint_of: Callable[[], Path]) -> None:
    """With as many frames as each view has: nothing of another view's number is in a score."""
    policy = build_policy(checkpoint_of(), num_frames=None, token_pooling=TokenPooling(clip=2))
    views = unequal_views()
    views[1] = views[1].with_frames(views[1].frames[:3])
    longer = torch.cat([views[2].frames, views[2].frames[:1]])
    views[2] = replace(views[2].with_frames(longer), name="clip")
    with torch.no_grad():
        together = policy.score(policy.encode(views)).log_probs
        alone = torch.cat([policy.score(policy.encode([view])).log_probs for view in views])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)
    lengths = [policy.prefix(view, "here").ids.count(policy.video_token_id) for view in views]
    assert lengths == [4 * TOKENS_PER_FRAME, 3 * TOKENS_PER_FRAME, 5 * 2, 4 * TOKENS_PER_FRAME]
    same = build_policy(checkpoint_of())
    with torch.no_grad():
        plain = same.score(same.encode(views[:1])).log_probs
    torch.testing.assert_close(together[:3], plain, rtol=1e-5, atol=1e-4)


@pytest.fixture
def checkpoint_of(folder: Path) -> Callable[[], Path]:
    return lambda: checkpoint("video_llava", folder)


def test_the_lengths_of_texts_are_checked_with_the_tokens_that_pooling_leaves(folder: Path) -> None:
    path = str(checkpoint("video_llava", folder))  # 512 positions, 5 tokens a frame
    answers = {"chosen": "yes"}

    def faults(frames: int, **settings: Any) -> list[str]:
        policy = VideoLlavaPolicy(path, num_frames=None, **settings)
        return policy.text_faults("what?", answers, (frames, 32, 32))

    assert "the checkpoint has 512 positions" in faults(120)[0]
    assert faults(120, token_pooling=TokenPooling(video=2)) == []
    assert "the checkpoint has 512 positions" in faults(250, token_pooling=TokenPooling(video=2))[0]
    onevision = make_policy(checkpoint("llava_onevision", folder), token_pooling=TokenPooling(video=2))
    plain = make_policy(checkpoint("llava_onevision", folder))
    shape = (4, 64, 64)
    tokens = plain.video_length(shape) - 1
    assert onevision.video_length(shape) == tokens // 4 + 1


def test_families_whose_positions_are_of_the_grid_refuse_pooling(folder: Path) -> None:
    pooling = TokenPooling(video=2)
    for kind, why in (("qwen3_vl", "rows, columns and times .* lower policy.max_pixels"), ("qwen3_5", "own forward")):
        with pytest.raises(ValueError, match=f"policy.token_pooling is not for .*{why}"):
            make_policy(checkpoint(kind, folder), token_pooling=pooling)
    with pytest.raises(ValueError, match=r"token_pooling.clip is 3: the tower has 2 x 2 tokens a frame"):
        make_policy(checkpoint("video_llava", folder), token_pooling=TokenPooling(clip=3))
    with pytest.raises(ValueError, match=r"PLLaVA's own pooling has 3 x 3 tokens"):
        make_policy(checkpoint("pllava", folder), token_pooling=TokenPooling(2))
    with pytest.raises(ValueError, match=r"\{'object': 0\}; give 1"):
        TokenPooling(object=0)


def test_a_cache_of_scores_and_a_card_know_the_pooling(folder: Path) -> None:
    from callbacks.adapter_card import _policy_rows

    path = checkpoint("video_llava", folder)
    plain, pooled = make_policy(path), make_policy(path, token_pooling=TokenPooling(video=2))
    settings = settings_and_contents(plain, nested=False)
    assert "pooled_tokens" not in settings
    assert settings == settings_and_contents(make_policy(path, token_pooling=TokenPooling()), nested=False)
    assert settings_and_contents(pooled, nested=False)["pooled_tokens"] == "video 2 x 2, clip 1 x 1, object 1 x 1"
    assert dict(_policy_rows(pooled))["pooled_tokens"] == "video 2 x 2, clip 1 x 1, object 1 x 1"


def test_what_is_visible_of_a_frame_is_the_same(folder: Path) -> None:
    path = checkpoint("video_llava", folder)
    assert make_policy(path, token_pooling=TokenPooling(2)).visible(20, 40) == make_policy(path).visible(20, 40)
