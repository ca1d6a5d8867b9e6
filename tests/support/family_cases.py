"""Policies of every family on tiny checkpoints, and transformers' own numbers for the same views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.vista.samples import View
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.hub_model import policy_class
from lightning_modules.policies.processor_policy import clock
from tests.support.slow_params import slow_but
from tests.support.tiny_families import BUILDERS, save, save_pllava
from tests.support.tiny_video_llava import NUM_FRAMES, save_tiny_video_llava

#: Families whose prompt is a template of one string and whose checkpoints are written in their own way.
TEMPLATED: dict[str, Callable[[Path], Path]] = {"pllava": save_pllava, "video_llava": save_tiny_video_llava}
#: Every family that is tested, by its model_type.
FAMILIES = (*BUILDERS, *TEMPLATED)
#: One of each layout, of three position rows and of one, runs in the quick suite.
FAMILY_PARAMS = slow_but(("qwen3_vl", "qwen3_5", "llava_onevision"), FAMILIES)
#: What a checkpoint cannot be read without.
SETTINGS: dict[str, dict[str, Any]] = {"pllava": {"lora_alpha": 2.0}, "video_llava": {"num_frames": NUM_FRAMES}}
LORA = LoraSettings(r=4, alpha=8)
ALPHA = SETTINGS["pllava"]["lora_alpha"]


def checkpoint(kind: str, folder: Path) -> Path:
    """The family's checkpoint in a folder; written once."""
    path = folder / kind
    if not path.exists():
        TEMPLATED[kind](path) if kind in TEMPLATED else save(kind, path)
    return path


def make_policy(path: Path, **settings: Any) -> Any:
    """The family's policy, its weights not read yet."""
    return policy_class(str(path))(str(path), **SETTINGS.get(path.name, {}) | settings)


def loaded(path: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """A loaded policy; a fresh adapter, which is zero, is given something to say, and the same each time."""
    policy = make_policy(path, **{"lora": LORA} | settings)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        policy.load()
        for name, parameter in policy.named_parameters():
            if "lora_B.default" in name:
                parameter.normal_(std=0.3)
    return policy.to(dtype)


def family_views(kind: str = "") -> list[View]:
    """Unequal prompts, answers, sizes, numbers of frames and steps; a reversed video and a repeated frame.

    Args:
        kind: the family; Video-LLaVA takes one number of frames.
    """
    generator, more = torch.Generator().manual_seed(0), 4 if kind == "video_llava" else 5
    first = torch.randint(0, 256, (4, 3, 60, 90), generator=generator, dtype=torch.uint8)
    second = torch.randint(0, 256, (more, 3, 64, 64), generator=generator, dtype=torch.uint8)
    half, slow = torch.arange(4) * 0.5, torch.arange(more) * 1.5
    chosen = "the red ball rolls"
    answers = {"chosen": chosen, "rejected": "a blue one", "irrelevant": "no"}
    return [
        View(0, "original", first, "what moves?", dict(answers), half),
        View(0, "video_negative", first.flip(0), "what moves?", {"chosen": chosen}, half),
        View(1, "original", second, "where is it, and since when?", {"chosen": "left", "rejected": "right"}, slow),
        View(1, "object", second[2:3].expand(more, -1, -1, -1), "where is it?", {"chosen": "left"}, slow),
    ]


def native_inputs(policy: Any, view: View, answer: str | None = None) -> dict[str, Tensor]:
    """A view, with an answer behind it or none, through the checkpoint's own template and processor alone."""
    if policy.config.model_type == "video_llava":
        return template_inputs(policy, view, answer)
    content = [{"type": "video"}, {"type": "text", "text": view.prompt}]
    text = policy.processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    made = policy.processor(
        text=[text if answer is None else text + policy.chat.answer_ids.space + answer],
        videos=[view.frames],
        video_metadata=[clock(view, "native")],
        do_sample_frames=False,
        input_data_format="channels_first",
        return_tensors="pt",
    )
    floats = next(policy.base.parameters()).dtype
    tensors = {name: torch.as_tensor(value) for name, value in made.items()}
    return {name: value.to(floats) if value.is_floating_point() else value for name, value in tensors.items()}


def template_inputs(policy: Any, view: View, answer: str | None) -> dict[str, Tensor]:
    """As `native_inputs` for Video-LLaVA, whose processor has no chat template."""
    text = f"USER: <video>\n{view.prompt} ASSISTANT:" + ("" if answer is None else f" {answer}")
    made = policy.processor(text=[text], videos=[view.frames], do_sample_frames=False, return_tensors="pt")
    return {name: made[name] for name in ("input_ids", "attention_mask", "pixel_values_videos")} | {
        "pixel_values_videos": made["pixel_values_videos"].to(next(policy.base.parameters()).dtype)
    }


def native_log_probs(policy: Any, views: list[View]) -> Tensor:
    """(A,) every answer's log-probability by the model's own forward, one sequence at a time."""
    values = []
    for view in views:
        start = native_inputs(policy, view)["input_ids"].shape[1]
        for answer in view.answers.values():
            inputs = native_inputs(policy, view, answer)
            template = policy.config.model_type == "video_llava"  # whose turn ends as its tokenizer's texts do
            end = policy.processor.tokenizer.eos_token_id if template else policy.chat.answer_ids.end_id
            ids = [*inputs["input_ids"][0].tolist(), end]
            log_probs = policy.base(**inputs).logits[0].log_softmax(-1)
            places = torch.arange(start - 1, len(ids) - 1)
            values.append(log_probs[places, torch.tensor(ids[start:])].sum())
    return torch.stack(values)


def pllava_logits(policy: Any, view: View, answer: list[int]) -> Tensor:
    """(L, V) as PLLaVA's release computes them: project, pool, put the video in the place of its token."""
    base, tokenizer = policy.base, policy.processor.tokenizer
    embed = base.get_input_embeddings()
    frames = policy.processor.video_processor(
        videos=[view.frames], do_sample_frames=False, input_data_format="channels_first", return_tensors="pt"
    )["pixel_values_videos"][0]
    states = base.model.vision_tower(frames.to(embed.weight.dtype), output_hidden_states=True).hidden_states[-2]
    projected = base.model.multi_modal_projector(states[:, 1:])
    video = projected.view(1, len(frames), 6, 6, -1).permute(0, 4, 1, 2, 3)
    pooled = nn.AdaptiveAvgPool3d((4, 3, 3))(video).permute(0, 2, 3, 4, 1).reshape(-1, projected.shape[-1])
    before, after = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("USER:", f" {view.prompt} ASSISTANT:")
    )
    parts = [embed(torch.tensor(before)), pooled, embed(torch.tensor([*after, *answer]))]
    logits: Tensor = base(inputs_embeds=torch.cat(parts)[None]).logits[0]
    return logits


def pllava_log_probs(policy: Any, views: list[View]) -> Tensor:
    """(A,) every answer's log-probability."""
    values, tokenizer = [], policy.processor.tokenizer
    for view in views:
        for answer in view.answers.values():
            ids = [*tokenizer(f" {answer}", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            log_probs = pllava_logits(policy, view, ids[:-1]).log_softmax(-1)[-len(ids) :]
            values.append(log_probs[torch.arange(len(ids)), torch.tensor(ids)].sum())
    return torch.stack(values)


@torch.no_grad()
def own_answer(kind: str, policy: Any, view: View, max_new_tokens: int) -> str:
    """The greedy answer: of PLLaVA the likeliest token each time, elsewhere by the model's own `generate`."""
    tokenizer, new = policy.processor.tokenizer, []
    if kind == "pllava":
        while len(new) < max_new_tokens and tokenizer.eos_token_id not in new:
            new.append(int(pllava_logits(policy, view, new)[-1].argmax()))
    else:
        inputs = native_inputs(policy, view)
        ids = policy.base.eval().generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        policy.train()
        new = ids[0, inputs["input_ids"].shape[1] :].tolist()
    text: str = tokenizer.decode(new, skip_special_tokens=True)
    return text.strip()


def own_log_probs(kind: str, policy: Any, views: list[View]) -> Tensor:
    """The family's numbers from code that is not the policy's."""
    return (pllava_log_probs if kind == "pllava" else native_log_probs)(policy, views)
