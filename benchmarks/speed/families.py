"""Memory and work of a LoRA step by family: `python -m benchmarks.speed.families [CHECKPOINT ...]`.

Estimated as `vidpref estimate` does: the method's own step, on tensors without content, of the checkpoints whose sizes
are known in `callbacks/estimate/checkpoints`. It prints the tables of docs/families.md, a row as soon as it is known;
all of them take about fifteen minutes of one core. The step is that of one GPU, in which gradients accumulate.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins import MixedPrecision

from callbacks.estimate.batches import Sizes, batch_of, latent_shape
from callbacks.estimate.cards import GIB
from callbacks.estimate.checkpoint_facts import facts_of, write_checkpoint
from callbacks.estimate.estimator import Estimator
from callbacks.estimate.step import StepCost
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies import cogvideox, hunyuan_video15, ltx, mochi, wan
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.diffusers_flow import DiffusersVideoFlow
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.hub_model import policy_class
from lightning_modules.vista_dpo import VistaDPO

#: Of a video that a video-language model sees.
FRAMES, HEIGHT, WIDTH = 8, 360, 640
ANSWERS_HEAD = ("checkpoint", "parameters", "video tokens", "weights", "LoRA step", "with nf4", "TFLOP")
FLOWS_HEAD = ("checkpoint", "frames x height x width", "parameters", "video tokens", "weights", "LoRA step", "TFLOP")


@dataclass(frozen=True, slots=True)
class Row:
    """A checkpoint whose step is estimated.

    Attributes:
        settings: of the policy, what it cannot be made without.
        policy: of a video diffusion model.
        video: frames, height and width that a video diffusion model makes.
        part: what of the checkpoint trains, where that is not all.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    policy: type[DiffusersVideoFlow] | None = None
    video: tuple[int, int, int] = (81, 480, 832)
    part: str = ""


#: Video-language models, by their checkpoints.
ANSWERS: dict[str, Row] = {
    "LanguageBind/Video-LLaVA-7B-hf": Row({"num_frames": FRAMES}),
    "ermu2001/pllava-7b": Row({"lora_alpha": 4.0}),
    "llava-hf/LLaVA-NeXT-Video-7B-hf": Row(),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": Row(),
    "OpenGVLab/InternVL3-8B-hf": Row(),
    "Qwen/Qwen2.5-VL-7B-Instruct": Row(),
    "Qwen/Qwen3-VL-8B-Instruct": Row(),
    "Qwen/Qwen3.5-9B": Row(),
    "google/gemma-4-E4B-it": Row(),
    "zai-org/GLM-4.6V-Flash": Row(),
    "lkhl/VideoLLaMA3-2B-Image-HF": Row(),
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": Row(),
}
#: Video diffusion models, by their checkpoints.
FLOWS: dict[str, Row] = {
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": Row(policy=wan.WanPolicy),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": Row(policy=wan.WanPolicy),
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": Row(policy=wan.WanPolicy),
    "Wan-AI/Wan2.2-T2V-A14B-Diffusers": Row(policy=wan.WanPolicy, part="an expert"),
    "Wan-AI/Wan2.2-I2V-A14B-Diffusers": Row(policy=wan.WanPolicy, part="an expert"),
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": Row(policy=wan.WanPolicy, video=(121, 704, 1280)),
    "Lightricks/LTX-Video": Row(policy=ltx.LTXPolicy, video=(161, 512, 704)),
    "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v": Row(
        policy=hunyuan_video15.HunyuanVideo15Policy, video=(121, 480, 848)
    ),
    "THUDM/CogVideoX-2b": Row(policy=cogvideox.CogVideoXPolicy, video=(49, 480, 720)),
    "THUDM/CogVideoX-5b": Row(policy=cogvideox.CogVideoXPolicy, video=(49, 480, 720)),
    "THUDM/CogVideoX1.5-5B": Row(policy=cogvideox.CogVideoXPolicy, video=(81, 768, 1360)),
    "genmo/mochi-1-preview": Row(policy=mochi.MochiPolicy, video=(163, 480, 848)),
}


@contextmanager
def without_files(checkpoint: str) -> Iterator[str]:
    """A folder with what a policy reads of a checkpoint before its weights.

    Raises:
        ValueError: the checkpoint's sizes are not known.
    """
    facts = facts_of(checkpoint)
    if facts is None:
        raise ValueError(f"{checkpoint}: its sizes are not known; add them to callbacks/estimate/checkpoints")
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(facts, Path(folder))
        yield folder


def answers_row(checkpoint: str, row: Row) -> list[str]:
    """A line of the table of video-language models: VistaDPO, one sample, rank 16 on the decoder's linears."""
    sizes, data = Sizes(height=HEIGHT, width=WIDTH), VistaPairs(train="train.index.json", num_frames=FRAMES)
    costs: list[StepCost] = []
    with without_files(checkpoint) as folder:
        for quantization in (None, "nf4"):
            policy: Any = policy_class(folder)(
                folder, lora=LoraSettings(r=16, alpha=32), dtype="bfloat16", activation_checkpointing=True,
                quantization=quantization, **row.settings,
            )  # fmt: skip
            module = VistaDPO(policy)
            precision = MixedPrecision("bf16-mixed", "cpu").forward_context
            costs.append(Estimator(module, data, "adapter", precision).cost(sizes))
        parameters = parameters_of(policy)
        view = batch_of(module, data, sizes, 1).views[0]
        tokens = policy.prefix(view, "a view").ids.count(policy.video_token_id)
    plain, packed = costs
    return cells(checkpoint, [], parameters, tokens, plain, packed)


def flows_row(checkpoint: str, row: Row) -> list[str]:
    """A line of the table of video diffusion models: DenseDPO, one pair, rank 128."""
    assert row.policy is not None
    frames, height, width = row.video
    sizes = Sizes(frames, height, width)
    with without_files(checkpoint) as folder:
        policy: Any = row.policy(
            folder, lora=FlowLora(r=128, alpha=128), dtype="bfloat16", activation_checkpointing=True, **row.settings
        )
        cost = Estimator(DenseDPO(policy), None, "adapter").cost(sizes)
        tokens = prod(size // patch for size, patch in zip(latent_shape(policy, sizes)[1:], policy.patch, strict=True))
        parameters = parameters_of(policy)
    name = f"`{checkpoint}`, {row.part}" if row.part else f"`{checkpoint}`"
    return [name, *cells(checkpoint, [" x ".join(map(str, row.video))], parameters, tokens, cost)[1:]]


def parameters_of(policy: Any) -> int:
    """How many weights the model of a policy has, its adapter's apart; loads it without weights."""
    policy.load(meta=True)
    return sum(weight.numel() for name, weight in policy.named_parameters() if ".lora_" not in name)


def cells(checkpoint: str, shape: list[str], parameters: int, tokens: int, *costs: StepCost) -> list[str]:
    """What a table says of a checkpoint.

    Args:
        checkpoint: its id.
        shape: of the video, where the table has it.
        parameters: weights of the model.
        tokens: of a video.
        *costs: of a step in bfloat16, and in other forms.
    """
    flops = sum(costs[0].flops.values()) / costs[0].samples / 1e12
    return [
        f"`{checkpoint}`", *shape, f"{parameters / 1e9:.1f} B", str(tokens), f"{costs[0].weights / GIB:.1f} GiB",
        *(f"{cost.peak.total / GIB:.1f} GiB" for cost in costs), f"{flops:.0f}",
    ]  # fmt: skip


def line(row: Sequence[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(row)} |"


def head(names: Sequence[str], left: int) -> list[str]:
    """The first lines of a table, of which the first columns are to the left."""
    return [line(names), f"|{'---|' * left}{'---:|' * (len(names) - left)}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables.

    Args:
        arguments: checkpoints; none = all.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.speed.families", description=__doc__)
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT", help="leave the others out")
    chosen = parser.parse_args(arguments).checkpoints
    for name in chosen:
        if name not in ANSWERS and name not in FLOWS:
            parser.error(f"{name}: known are {', '.join((*ANSWERS, *FLOWS))}")
    for table, make, names, left in ((ANSWERS, answers_row, ANSWERS_HEAD, 1), (FLOWS, flows_row, FLOWS_HEAD, 2)):
        rows = {name: row for name, row in table.items() if not chosen or name in chosen}
        if rows:
            print("\n".join(["", *head(names, left)]))
        for name, row in rows.items():
            print(line(make(name, row)), flush=True)


if __name__ == "__main__":
    main()
