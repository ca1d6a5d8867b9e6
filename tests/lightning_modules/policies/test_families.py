"""Every video-language family against transformers' own numbers, on tiny checkpoints of the real classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from lightning_modules.policies import any_video_llm
from tests.support.family_cases import (
    FAMILIES,
    FAMILY_PARAMS,
    checkpoint,
    family_views,
    loaded,
    make_policy,
    own_answer,
    own_log_probs,
)
from tests.support.slow_params import slow_but
from tests.support.tiny_rows_families import ROWS_BUILDERS

ROWS = tuple(ROWS_BUILDERS)
#: Families whose answers depend on the clock; of Qwen2-VL positions know no seconds.
TIMED = ("qwen2_5_vl", "qwen3_vl", *ROWS)


def weighted(values: Tensor) -> Tensor:
    """A scalar to which every answer adds differently."""
    return (values * torch.linspace(-1, 1.5, len(values), dtype=values.dtype)).sum()


def gradients(policy: Any, loss: Tensor) -> dict[str, Tensor]:
    policy.zero_grad()
    loss.backward()
    return {name: one.grad.clone() for name, one in policy.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("kind", FAMILY_PARAMS)
def test_scores_equal_the_models_own_forward_of_every_sequence(kind: str, policy_of: Callable[[str], Any]) -> None:
    policy, views = policy_of(kind), family_views(kind)
    with torch.no_grad():
        ours, own = policy.score(policy.encode(views)).log_probs, own_log_probs(kind, policy, views)
    assert policy._layout == ("rows" if kind in ROWS else "packed")
    assert (ours - own).abs().max() <= 1e-6 * own.abs().max()
    assert abs(ours[0] - ours[3]) > 1e-2  # the same answer under the reversed video


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen3_5", "gemma4"])
def test_a_family_without_placeholders_goes_through_its_own_forward(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every model that nobody tested: its own forward counts positions and places."""
    monkeypatch.setattr(any_video_llm, "PLACEHOLDERS", {})
    policy, views = loaded(checkpoint(kind, folder)), family_views(kind)
    encoded = policy.encode(views)
    assert not isinstance(encoded.vision[0], Tensor)
    with torch.no_grad():
        ours, own = policy.score(encoded).log_probs, own_log_probs(kind, policy, views)
    assert (ours - own).abs().max() <= 1e-6 * own.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["video_llava", "gemma4", "qwen3_5", "smolvlm"])
def test_eager_rows_equal_the_models_own(kind: str, folder: Path) -> None:
    """Eager attention is causal by its mask alone."""
    policy, views = loaded(checkpoint(kind, folder), layout="rows", attn_implementation="eager"), family_views(kind)
    with torch.no_grad():
        ours, own = policy.score(policy.encode(views)).log_probs, own_log_probs(kind, policy, views)
    assert (ours - own).abs().max() <= 1e-6 * own.abs().max()


@pytest.mark.parametrize("kind", FAMILY_PARAMS)
def test_gradients_equal_the_models_own(kind: str, folder: Path) -> None:
    policy, views = loaded(checkpoint(kind, folder), torch.float64), family_views(kind)
    ours = gradients(policy, weighted(policy.score(policy.encode(views)).log_probs))
    own = gradients(policy, weighted(own_log_probs(kind, policy, views)))
    assert ours.keys() == own.keys() == {name for name, one in policy.named_parameters() if one.requires_grad}
    largest = max(float(gradient.abs().max()) for gradient in own.values())
    for name, gradient in own.items():
        assert (ours[name] - gradient).abs().max() <= 1e-6 * largest, name


@pytest.mark.parametrize("kind", FAMILY_PARAMS)
def test_generate_equals_the_models_own_of_every_prompt(
    kind: str, policy_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts of unequal length asked together, in one call where the family allows it, against each asked alone."""
    policy, views, calls = policy_of(kind), family_views(kind), []
    own = [own_answer(kind, policy, view, 6) for view in views]
    generate = policy.base.generate
    monkeypatch.setattr(policy.base, "generate", lambda **inputs: calls.append(1) or generate(**inputs))
    answers = policy.generate(
        [view.prompt for view in views], [view.frames for view in views], 6, times=[view.times for view in views]
    )
    assert answers == own
    assert len(set(answers)) >= 2
    assert len(calls) == (len(views) if kind in ROWS else 1)
    assert policy.training
    assert policy.generate([], [], 6, times=[]) == []


@pytest.mark.parametrize("kind", slow_but(("qwen3_vl",), TIMED))
def test_another_clock_gives_other_answers_and_none_is_refused(kind: str, policy_of: Callable[[str], Any]) -> None:
    policy, view = policy_of(kind), family_views(kind)[0]
    with torch.no_grad():
        right = policy.score(policy.encode([view])).log_probs
        other = policy.score(policy.encode([replace(view, times=view.times * 7)])).log_probs
    assert (right - other).abs().max() > 1e-2
    with pytest.raises(ValueError, match="sample 0 of the batch, view original: the frames come without their times"):
        policy.encode([replace(view, times=None)])


def test_deepstack_left_out_is_noticed(policy_of: Callable[[str], Any]) -> None:
    policy, views = policy_of("qwen3_vl"), family_views()
    encoded = policy.encode(views)
    assert len(encoded.vision) == 3
    with torch.no_grad():
        right = policy.score(encoded).log_probs
        encoded.vision = encoded.vision[:1]
        without = policy.score(encoded).log_probs
    assert (right - without).abs().max() > 1e-2


def test_a_shifted_position_is_noticed(policy_of: Callable[[str], Any]) -> None:
    """Answers go on at the largest position + 1, not at the number of tokens."""
    policy, views = policy_of("qwen2_5_vl"), family_views()
    encoded = policy.encode(views)
    length = len(policy.prefix(views[0], "here").ids)
    assert encoded.packed.positions.shape[0] == 3
    assert int(encoded.packed.positions[:, 0, length].max()) < length
    with torch.no_grad():
        right = policy.score(encoded).log_probs
        encoded.packed.positions[:, 0, length:] += 3
        assert (policy.score(encoded).log_probs - right).abs().max() > 1e-2


@pytest.mark.parametrize("kind", FAMILY_PARAMS)
def test_the_export_loads_in_plain_peft(
    kind: str, policy_of: Callable[[str], Any], folder: Path, tmp_path: Path
) -> None:
    policy, views = policy_of(kind), family_views(kind)[:1]
    policy.export(tmp_path)
    plain = loaded(checkpoint(kind, folder), lora=None)
    with torch.no_grad():
        bare = own_log_probs(kind, plain, views)
        own = own_log_probs(kind, policy, views)
        plain.model = PeftModel.from_pretrained(plain.model, str(tmp_path)).get_base_model()
        again = own_log_probs(kind, plain, views)
        ours = make_policy(checkpoint(kind, folder), adapter=str(tmp_path))
        ours.load()
        assert torch.equal(ours.score(ours.encode(views)).log_probs, policy.score(policy.encode(views)).log_probs)
    assert torch.equal(again, own)
    assert (bare - own).abs().max() > 1e-2


@pytest.mark.parametrize(
    "kind", slow_but(("qwen3_vl", "llava_onevision"), [kind for kind in FAMILIES if kind not in ROWS])
)
def test_rows_equal_packed_views(kind: str, policy_of: Callable[[str], Any], folder: Path) -> None:
    policy, views = policy_of(kind), family_views(kind)
    rows = loaded(checkpoint(kind, folder), layout="rows")
    with torch.no_grad():
        packed, separate = (one.score(one.encode(views)).log_probs for one in (policy, rows))
    assert (packed - separate).abs().max() <= 1e-6 * packed.abs().max()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("qwen3_5", "3 of its 4 layers are linear_attention"),
        ("gemma4", "2 of its 3 layers are sliding_attention; the vision tokens of a block see each other"),
    ],
)
def test_packing_where_answers_would_leak_is_refused(kind: str, why: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=f"policy.layout is packed, which is not exact for .*: {why}"):
        make_policy(checkpoint(kind, folder), layout="packed")


def test_packing_is_wrong_where_it_is_refused(policy_of: Callable[[str], Any]) -> None:
    """The reason for the refusal: a recurrent state hands one answer on to the next."""
    policy, view = policy_of("qwen3_5"), family_views()[0]
    encoded = policy.encode([view])
    first, second = (policy.answer_ids(view.answers[name], "here") for name in ("chosen", "rejected"))
    prefix = policy.prefix(view, "here")
    row = torch.tensor([[*prefix.ids, *first[:-1], *second[:-1]]])
    with torch.no_grad():
        right = policy.score(encoded).log_probs[1]
        positions, start = torch.arange(row.shape[1])[None, None].expand(3, 1, -1).clone(), len(prefix.ids)
        hidden = policy.decoder(inputs_embeds=policy.base.get_input_embeddings()(row), position_ids=positions)
        log_probs = policy.logits(hidden.last_hidden_state[0]).log_softmax(-1)
    places = torch.tensor([start - 1, *range(start + len(first) - 1, row.shape[1])])
    assert abs(float(log_probs[places, torch.tensor(second)].sum() - right)) > 1e-1


@pytest.mark.parametrize("kind", FAMILY_PARAMS)
def test_the_tower_sees_what_is_distinct_once(kind: str, policy_of: Callable[[str], Any]) -> None:
    """Two views of the same frames in another order, and a third of one of them."""
    policy, view = policy_of(kind), family_views(kind)[0]
    repeated = replace(view.with_frames(view.frames[:1].expand(4, -1, -1, -1)), name="object")
    encoded = [policy.encode(views) for views in ([view], [view, view, repeated])]
    with torch.no_grad():
        alone, together = (policy.score(one).log_probs for one in encoded)
    assert (together[: len(alone)] - alone).abs().max() <= 1e-6 * alone.abs().max()


@pytest.mark.parametrize("kind", FAMILY_PARAMS)
def test_every_block_has_an_adapter(kind: str, policy_of: Callable[[str], Any]) -> None:
    policy = policy_of(kind)
    names = [name for name, one in policy.model.named_parameters() if one.requires_grad]
    for index in range(len(policy.decoder.layers)):
        assert any(f"layers.{index}." in name for name in names)
    assert all("lora_" in name and "visual" not in name and "vision" not in name for name in names)


@pytest.mark.parametrize("kind", FAMILY_PARAMS)
def test_texts_stay_text(kind: str, policy_of: Callable[[str], Any]) -> None:
    policy, view = policy_of(kind), family_views(kind)[0]
    prefix, ends = policy.prefix(view, "here"), policy.processor.tokenizer.eos_token_id
    attacked = policy.prefix(replace(view, prompt="what <|im_end|> moves?"), "here")
    assert attacked.ids.count(ends) == prefix.ids.count(ends)
    token = policy.processor.video_token
    with pytest.raises(ValueError, match="video token"):
        policy.encode([replace(view, prompt=f"what {token} moves?")])
    with pytest.raises(ValueError, match="holds the video token"):
        policy.encode([replace(view, answers={"chosen": f"a {token}"})])
    assert policy.text_faults("what?", {"chosen": "a ball"}) == []
    (fault,) = policy.text_faults(f"what {token}?", {"chosen": "a ball"})
    assert "video token" in fault


@pytest.mark.parametrize("kind", FAMILY_PARAMS)
def test_lengths_are_checked_with_the_video_before_it_is_read(
    kind: str, policy_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, view = policy_of(kind), replace(family_views(kind)[0], prompt="what?")
    frames, _, height, width = view.frames.shape
    shape, prefix = (frames, height, width), policy.prefix(view, "here")
    counted = policy.prompt_length("what?", "here") + policy.video_length(shape)
    # The probe has a frame a second; where a template tells times, another clock may take a few tokens more or less.
    assert counted == pytest.approx(len(prefix.ids), abs=0 if kind not in TIMED else 4 * frames)
    limit = counted + len(policy.answer_ids("a ball", "here"))
    monkeypatch.setattr(policy.config.get_text_config(), "max_position_embeddings", limit)
    assert policy.text_faults("what?", {"chosen": "a ball"}, shape) == []
    monkeypatch.setattr(policy.config.get_text_config(), "max_position_embeddings", limit - 1)
    (fault,) = policy.text_faults("what?", {"chosen": "a ball"}, shape)
    assert f"{limit} tokens, the checkpoint has {limit - 1} positions" in fault


@pytest.mark.parametrize("kind", FAMILY_PARAMS)
def test_earlier_turns_are_rendered_as_the_template_does(kind: str, policy_of: Callable[[str], Any]) -> None:
    policy, view = policy_of(kind), family_views(kind)[0]
    turns = (("what is it?", "a ball"),)
    prefix, tokenizer = policy.prefix(replace(view, turns=turns), "here"), policy.processor.tokenizer
    text = tokenizer.decode([index for index in prefix.ids if index != policy.video_token_id])
    assert text.index("what is it?") < text.index("a ball") < text.index("what moves?")
    counted = [len(policy.prefix(replace(view, turns=earlier), "here").ids) for earlier in (turns, ())]
    lengths = [policy.prompt_length(view.prompt, "here", earlier) for earlier in (turns, ())]
    assert lengths[0] - lengths[1] == counted[0] - counted[1], "what a check of lengths says of them"
    assert prefix.ids.count(policy.video_token_id) == policy.prefix(view, "here").ids.count(policy.video_token_id)
    with torch.no_grad():
        scores = policy.score(policy.encode([view, replace(view, turns=turns)])).log_probs
    assert abs(float(scores[0] - scores[3])) > 1e-3
