from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datamodules.vista.samples import View
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support.video_llava_cases import SETTINGS, build_policy

Make = Callable[..., VideoLlavaPolicy]


# Asking


def reference_answers(policy: VideoLlavaPolicy, views: list[View], max_new_tokens: int) -> list[str]:
    """One by one through transformers' own generate."""
    answers = []
    for view in views:
        prompt = policy.prompt_template.replace("{question}", view.prompt)
        inputs = policy.processor(text=[prompt], videos=[view.frames], return_tensors="pt")
        with torch.no_grad():
            ids = policy.base.eval().generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0)
        new = ids[0, inputs["input_ids"].shape[1] :]
        answers.append(policy.processor.tokenizer.decode(new, skip_special_tokens=True).strip())
    policy.train()
    return answers


@pytest.mark.parametrize("setting", ["full", "lora", "recomputed activations"])
def test_generate_equals_transformers_one_by_one(make: Make, views: list[View], setting: str) -> None:
    policy = make(**SETTINGS[setting])
    answers = policy.generate([view.prompt for view in views], [view.frames for view in views], 12)
    assert answers == reference_answers(policy, views, 12)
    assert len(set(answers)) > 1
    assert policy.training


def test_generate_goes_on_where_the_answer_was_begun(make: Make, views: list[View]) -> None:
    """A text that the template ends with gives the same ids, and the start is not part of what comes back."""
    policy = make()
    begun = make(prompt_template=f"{policy.prompt_template} Best option:(")
    asked = [view.prompt for view in views], [view.frames for view in views], 6
    replies = policy.generate(*asked, answer_start="Best option:(")
    assert replies == begun.generate(*asked)
    assert replies != policy.generate(*asked)


def test_generate_honours_adapters(make: Make, views: list[View]) -> None:
    policy, base = make(lora=LoraSettings(r=4, alpha=32)), make()
    asked = [view.prompt for view in views], [view.frames for view in views], 8
    with policy.reference_mode():
        assert policy.generate(*asked) == base.generate(*asked)
    assert policy.generate(*asked) != base.generate(*asked)


def test_generate_stops_at_the_end_of_sequence(make: Make, views: list[View]) -> None:
    policy = make()
    first = policy.generate([views[0].prompt], [views[0].frames], 1)
    new = policy.processor.tokenizer(first[0], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        head = policy.base.get_output_embeddings().weight
        head[policy.processor.tokenizer.eos_token_id] = 2 * head[new[-1]]
    assert policy.generate([views[0].prompt], [views[0].frames], 8) == [""]


# Building


def test_building_reads_no_weights(checkpoint: Path) -> None:
    policy = VideoLlavaPolicy(str(checkpoint))
    assert list(policy.parameters()) == []
    policy.load()
    model = policy.model
    policy.load()
    assert policy.model is model


def test_what_is_no_video_llava_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint at"):
        VideoLlavaPolicy(str(tmp_path / "absent"))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="holds a llama model"):
        VideoLlavaPolicy(str(tmp_path))


@pytest.mark.parametrize("setting", ["full", "full, tower and projector"])
def test_full_export_reloads_equal(make: Make, views: list[View], tmp_path: Path, setting: str) -> None:
    policy = make(**SETTINGS[setting])
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.01 * torch.randn_like(parameter) if parameter.requires_grad else 0
    policy.export(tmp_path)
    again = build_policy(tmp_path)
    assert torch.equal(again(again.encode(views)).log_probs, policy(policy.encode(views)).log_probs)
    fresh = make()
    assert not torch.equal(fresh(fresh.encode(views)).log_probs, policy(policy.encode(views)).log_probs)
