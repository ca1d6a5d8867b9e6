from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datamodules.vista.samples import AnswerScores, View
from datamodules.vista.shared_frames import distinct_units
from lightning_modules.losses.log_probs import response_log_probs, sequential_kl
from lightning_modules.policies import transformers_llm
from lightning_modules.policies.adapters import LANGUAGE_LINEARS, LoraSettings
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support.tiny_video_llava import NUM_FRAMES, save_tiny_video_llava
from tests.support.video_llava_cases import SETTINGS, WITH_HEAD, build_policy

Make = Callable[..., VideoLlavaPolicy]


def plain_inputs(policy: VideoLlavaPolicy, views: list[View], padding_side: str = "right") -> dict[str, Tensor]:
    """Every answer as a sequence of its own, through the checkpoint's processor; labels on the answer."""
    tokenizer, ids, labels, pixels = policy.processor.tokenizer, [], [], []
    for view in views:
        prompt = policy.prompt_template.replace("{question}", view.prompt)
        for answer in view.answers.values():
            texts = [prompt, f"{prompt} {answer}{tokenizer.eos_token}"]
            start, full = (policy.processor(text=[text], videos=[view.frames], return_tensors="pt") for text in texts)
            cut = start["input_ids"].shape[1]
            ids.append(full["input_ids"][0])
            labels.append(torch.cat([torch.full((cut,), -100), full["input_ids"][0, cut:]]))
            pixels.append(full["pixel_values_videos"][0])

    def padded(rows: list[Tensor], value: int) -> Tensor:
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side=padding_side)

    return {
        "input_ids": padded(ids, 0),
        "attention_mask": padded([torch.ones_like(row) for row in ids], 0),
        "pixel_values_videos": torch.stack(pixels),
        "labels": padded(labels, -100),
    }


def plain_logits(policy: VideoLlavaPolicy, inputs: dict[str, Tensor]) -> Tensor:
    logits: Tensor = policy.base(**{name: tensor for name, tensor in inputs.items() if name != "labels"}).logits
    return logits


def weighted(values: Tensor) -> Tensor:
    """A scalar to which every answer adds differently."""
    return (values * torch.linspace(0.5, 1.5, len(values))).sum()


def gradients(policy: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    policy.zero_grad()
    loss.backward()
    grads = {name: parameter.grad for name, parameter in policy.named_parameters() if parameter.grad is not None}
    return {name: gradient.clone() for name, gradient in grads.items() if gradient is not None}


def assert_same_gradients(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-5 * max(1.0, float(gradient.abs().max())))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_scores_and_gradients_equal_the_plain_forward(
    make: Make, views: list[View], setting: str, attention: str
) -> None:
    policy = make(attn_implementation=attention, **SETTINGS[setting])
    scores = policy.score(policy.encode(views))
    ours = gradients(policy, weighted(scores.log_probs))
    inputs = plain_inputs(policy, views)
    plain = response_log_probs(plain_logits(policy, inputs), inputs["labels"])
    torch.testing.assert_close(scores.log_probs, plain, rtol=1e-5, atol=1e-5)
    assert_same_gradients(ours, gradients(policy, weighted(plain)))
    assert ours.keys() == {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert scores.num_tokens.tolist() == (inputs["labels"] != -100).sum(1).tolist()


def test_scores_equal_a_left_padded_plain_forward(make: Make, views: list[View]) -> None:
    policy = make()
    inputs = plain_inputs(policy, views, padding_side="left")
    plain = response_log_probs(plain_logits(policy, inputs), inputs["labels"])
    torch.testing.assert_close(policy(policy.encode(views)).log_probs, plain, rtol=1e-5, atol=1e-5)


def test_a_view_scores_the_same_in_any_batch(make: Make, views: list[View]) -> None:
    policy = make()
    together = policy(policy.encode(views)).log_probs
    alone = torch.cat([policy(policy.encode([view])).log_probs for view in reversed(views)])
    torch.testing.assert_close(together, alone[[4, 5, 6, 3, 1, 2, 0]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("broken", ["causal mask", "boolean mask for eager", "no restart"])
def test_the_comparison_notices_a_broken_layout(
    make: Make, views: list[View], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    policy = make(attn_implementation="eager" if "eager" in broken else "sdpa")
    encoded = policy.encode(views)
    right = policy(encoded).log_probs
    mask = transformers_llm.shared_prefix_mask
    if broken == "causal mask":
        monkeypatch.setattr(
            transformers_llm, "shared_prefix_mask", lambda segments, *more: mask(segments.clamp(max=0), *more)
        )
    elif broken == "boolean mask for eager":
        monkeypatch.setattr(transformers_llm, "shared_prefix_mask", lambda segments, *_: mask(segments))
    else:
        encoded.packed.positions = torch.arange(encoded.packed.ids.shape[1]).expand_as(encoded.packed.ids)
    assert (policy(encoded).log_probs - right).abs().max() > 1e-2


def test_bfloat16_errs_no_more_than_the_plain_forward_does(make: Make, views: list[View]) -> None:
    exact = make(lora=LoraSettings(r=4, alpha=8))
    half = make(lora=LoraSettings(r=4, alpha=8), dtype="bfloat16", train_projector=True)
    assert {parameter.dtype for parameter in half.parameters() if parameter.requires_grad} == {torch.float32}
    expected = exact(exact.encode(views)).log_probs
    inputs = plain_inputs(exact, views)

    def error(log_probs: Tensor) -> float:
        assert log_probs.dtype == torch.float32
        return float((log_probs - expected).detach().abs().mean())

    with torch.autocast("cpu", torch.bfloat16):
        ours = error(exact(exact.encode(views)).log_probs)
        plain = error(response_log_probs(plain_logits(exact, inputs), inputs["labels"]))
    assert 0 < ours < 2 * plain
    ours = error(half(half.encode(views)).log_probs)
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):  # for the float32 projector, which the plain forward does not expect
        plain = error(response_log_probs(plain_logits(half, inputs), inputs["labels"]))
    assert 0 < ours < 2 * plain


def test_activations_are_recomputed_in_backward_only_where_asked_for(make: Make, views: list[View]) -> None:
    for recomputed in (False, True):
        policy = make(lora=LoraSettings(r=4), activation_checkpointing=recomputed)
        encoded, calls = policy.encode(views), []
        for layer in policy.base.model.language_model.layers:
            layer.mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(torch.is_grad_enabled()))
        policy(encoded).log_probs.sum().backward()
        assert len(calls) == (4 if recomputed else 2)


# Views, tokens


def test_the_tower_sees_each_frame_once_and_without_a_gradient(make: Make, views: list[View]) -> None:
    policy = make(train_projector=True)
    seen: list[int] = []
    policy.base.model.video_tower.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    encoded = policy.encode(views)
    policy(encoded)
    policy(encoded)
    assert seen == [2 * NUM_FRAMES]
    frames, places = encoded.vision
    assert not frames.requires_grad
    assert places.tolist() == [[0, 1, 2, 3], [3, 2, 1, 0], [4, 5, 6, 7], [6, 6, 6, 6]]


def test_frames_with_equal_sums_are_told_apart() -> None:
    swapped = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    swapped[0, 0], swapped[1, 0] = torch.tensor([[1, 0], [0, 1]]), torch.tensor([[0, 1], [1, 0]])
    units, places = distinct_units([swapped, swapped.flip(0)])
    assert len(units) == 2
    assert places == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "what does <video> show?"}, "sample 0 of the batch, view original: .* 2 times"),
        ({"answers": {"chosen": "yes", "rejected": " \n"}}, "view original, answer rejected: .* tokenises to nothing"),
        ({"answers": {"chosen": "<video>"}}, "holds the video token"),
        ({"pool": torch.zeros(3, 3, 16, 16, dtype=torch.uint8)}, "3 frames, the policy takes 4"),
        ({"prompt": "why? " * 200}, "the checkpoint has 512 positions"),
    ],
)
def test_unusable_views_are_refused(make: Make, views: list[View], change: dict[str, Any], message: str) -> None:
    view = copy.copy(views[0])
    for name, value in change.items():
        setattr(view, name, value)
    with pytest.raises(ValueError, match=message):
        make().encode([view])


def test_a_template_without_video_is_refused_when_it_is_used(make: Make, views: list[View]) -> None:
    with pytest.raises(ValueError, match="0 times instead of once"):
        make(prompt_template="USER: {question} ASSISTANT:").encode(views)


def test_a_template_without_question_is_refused_at_once(make: Make) -> None:
    with pytest.raises(ValueError, match=r"holds \{question\} 0 times"):
        make(prompt_template="USER: <video> ASSISTANT:")


def test_dropout_is_off(make: Make, tmp_path: Path) -> None:
    path = save_tiny_video_llava(tmp_path, dropout=0.3)
    policy = build_policy(path, lora=LoraSettings(r=2))
    assert policy.training
    rates = [value for module in policy.modules() for name, value in vars(module).items() if "dropout" in name]
    rates += [module.p for module in policy.modules() if isinstance(module, nn.Dropout)]
    assert len([rate for rate in rates if isinstance(rate, float)]) >= 5
    assert not any(rate for rate in rates if isinstance(rate, float))


# Divergence


def kept_scores(policy: VideoLlavaPolicy, views: list[View]) -> tuple[AnswerScores, AnswerScores]:
    encoded = policy.encode(views, [("original", "chosen"), ("original", "rejected")])
    with torch.no_grad(), policy.reference_mode():
        reference = policy(encoded)
    return reference, policy(encoded)


@pytest.mark.parametrize("targets", [LANGUAGE_LINEARS, WITH_HEAD])
def test_kl_equals_the_plain_form_on_full_logits(make: Make, views: list[View], targets: str) -> None:
    policy = make(lora=LoraSettings(r=4, alpha=8, targets=targets))
    reference, scores = kept_scores(policy, views)
    assert scores.hidden_answer is not None
    assert sorted(set(scores.hidden_answer.tolist())) == [0, 1, 4, 5]
    kl = policy.kl(reference, scores)
    ours = gradients(policy, weighted(kl))
    inputs = plain_inputs(policy, views)
    with torch.no_grad(), policy.reference_mode():
        reference_logits = plain_logits(policy, inputs)
    plain = sequential_kl(reference_logits, plain_logits(policy, inputs), inputs["labels"])
    plain = plain * torch.tensor([1, 1, 0, 0, 1, 1, 0])
    torch.testing.assert_close(kl, plain, rtol=1e-5, atol=1e-5)
    assert kl[[0, 1, 4, 5]].min() > 1e-3
    assert_same_gradients(ours, gradients(policy, weighted(plain)))


def test_kl_without_hidden_states_is_refused(make: Make, views: list[View]) -> None:
    policy = make(lora=LoraSettings(r=4))
    scores = policy(policy.encode(views))
    assert scores.hidden is None
    with pytest.raises(ValueError, match="keep_hidden"):
        policy.kl(scores, scores)


@pytest.mark.parametrize("recomputed", [False, True])
def test_full_fine_tuning_takes_its_reference_from_a_frozen_copy(
    make: Make, views: list[View], recomputed: bool
) -> None:
    policy = make(activation_checkpointing=recomputed)
    frozen = copy.deepcopy(policy).requires_grad_(False)
    encoded = policy.encode(views, [("original", "chosen")])
    optimizer = torch.optim.SGD([parameter for parameter in policy.parameters() if parameter.requires_grad], lr=1e-3)
    before = policy(encoded)
    before.log_probs.sum().backward()
    optimizer.step()
    reference, scores = frozen(encoded), policy(encoded)
    assert torch.equal(reference.log_probs, before.log_probs)
    assert policy.trains_head
    with pytest.raises(ValueError, match="head of the frozen copy"):
        policy.kl(reference, scores)
    kl = policy.kl(reference, scores, frozen.logits)
    assert kl[[0, 4]].min() > 1e-4
    assert float(frozen.kl(reference, reference).detach().abs().max()) < 1e-5
