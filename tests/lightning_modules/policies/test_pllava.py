"""PLLaVA in the published layout: its LoRA, its base, its prompts, what it exports."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightning_modules.policies.pllava import PROMPTS, PllavaPolicy
from lightning_modules.policies.pllava_weights import merged_weights
from tests.support.family_cases import ALPHA, checkpoint, family_views, loaded, make_policy


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
    short, repeated = (view.with_frames(view.frames[index]) for index in ([0, 1], [0, 0, 0, 1]))
    with torch.no_grad():
        scores = policy.score(policy.encode([short, repeated])).log_probs
    assert torch.equal(scores[:3], scores[3:])  # repeated three times each, then cut
