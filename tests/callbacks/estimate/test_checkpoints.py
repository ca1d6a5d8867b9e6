"""Published checkpoints without their files: their processors, and a step of the first of their layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor

from benchmarks.speed import families
from callbacks.estimate.batches import Sizes, batch_of
from callbacks.estimate.checkpoint_facts import facts_of, write_checkpoint
from callbacks.estimate.estimator import Estimator
from callbacks.estimate.step import StepCost
from callbacks.estimate.tracker import Work
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.any_video_llm import AnyVideoLLM
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.hunyuan_video15 import HunyuanVideo15Policy
from lightning_modules.vista_dpo import VistaDPO

pytestmark = pytest.mark.slow

QWEN, GEMMA = "Qwen/Qwen3.5-9B", "google/gemma-4-E4B-it"
HUNYUAN = "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v"


def written(checkpoint: str, folder: Path, file: str = "config.json", **changes: Any) -> str:
    """A folder of a checkpoint of which some sizes are others.

    Args:
        checkpoint: its id.
        folder: where to.
        file: whose sizes; of the text model where a configuration has parts.
        **changes: of them.
    """
    facts = facts_of(checkpoint)
    assert facts is not None
    content = facts["files"][file]
    content.get("text_config", content).update(changes)
    write_checkpoint(facts, folder)
    return str(folder)


def vista_cost(path: str) -> tuple[StepCost, int]:
    """What a LoRA step of rank 16 takes, and the tokens of a video of 8 frames of 640 x 360."""
    policy = AnyVideoLLM(path, lora=LoraSettings(r=16, alpha=32), dtype="bfloat16", activation_checkpointing=True)
    module, data = VistaDPO(policy), VistaPairs(train="train.index.json", num_frames=8)
    sizes = Sizes(height=360, width=640)
    cost = Estimator(module, data, "adapter").cost(sizes)
    policy.load(meta=True)  # positions are counted by the model's own rule
    view = batch_of(module, data, sizes, 1).views[0]
    return cost, policy.prefix(view, "a view").ids.count(policy.video_token_id)


def adapters(widths: Sequence[tuple[int, int]]) -> int:
    """Bytes of float32 adapters of rank 16 on linears of these widths."""
    return sum(16 * (into + out) * 4 for into, out in widths)


@pytest.mark.parametrize("checkpoint", [QWEN, GEMMA])
def test_words_and_control_tokens_are_one_token_each(checkpoint: str, tmp_path: Path) -> None:
    path = written(checkpoint, tmp_path)
    tokenizer = AutoProcessor.from_pretrained(path).tokenizer
    for text, count in (("yes yes", 2), ("user seconds assistant", 3), ("yes.", 2), ("12", 2), ("<|im_end|>", 1)):
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == count, text
    policy = AnyVideoLLM(path)
    assert policy.config.video_token_id == tokenizer.convert_tokens_to_ids(policy.processor.video_token)
    assert policy.prompt_length("yes yes", "a prompt") == policy.prompt_length("yes", "a prompt") + 1


def test_qwen3_5_with_a_layer_of_each_kind(tmp_path: Path) -> None:
    layers = ["linear_attention", "full_attention"]
    cost, tokens = vista_cost(written(QWEN, tmp_path, num_hidden_layers=2, layer_types=layers))
    # Frames of 352 x 640 as patches of 16, four of them a token, two frames a token.
    assert tokens == 4 * 11 * 20
    mlp = [(4096, 12288)] * 3
    linear = [(4096, 2 * 16 * 128 + 32 * 128), (4096, 4096), (4096, 32), (4096, 32), (4096, 4096)]
    full = [(4096, 2 * 16 * 256), (4096, 4 * 256), (4096, 4 * 256), (4096, 4096)]
    assert cost.trained == adapters([*linear, *full, *mlp, *mlp])
    assert {work.phase for work in cost.flops} >= {"tower", "reference", "forward", "recomputation", "backward"}


def test_gemma_4_with_layers_that_share_keys_and_values(tmp_path: Path) -> None:
    layers = ["sliding_attention", "full_attention"] * 2
    path = written(GEMMA, tmp_path, num_hidden_layers=4, layer_types=layers, num_kv_shared_layers=2)
    cost, tokens = vista_cost(path)
    # At most 70 of a frame of 16 : 9, whose sides are multiples of 48 pixels.
    assert tokens == 8 * 6 * 11
    mlp = [(2560, 10240)] * 3
    sliding, full = [(2560, 8 * 256)] * 2, [(2560, 8 * 512)] * 2
    keys = [*[(2560, 2 * 256)] * 2, *[(2560, 2 * 512)] * 2]
    assert cost.trained == adapters([*sliding, *full, *keys, *sliding, *full, *mlp * 4])


def test_hunyuan_video_15_with_two_blocks(tmp_path: Path) -> None:
    path = written(HUNYUAN, tmp_path, "transformer/config.json", num_layers=2)
    row = families.FLOWS[HUNYUAN]
    frames, height, width = row.video
    policy = HunyuanVideo15Policy(
        path, lora=FlowLora(r=128, alpha=128), dtype="bfloat16", activation_checkpointing=True
    )
    cost = Estimator(DenseDPO(policy), None, "adapter").cost(Sizes(frames, height, width))
    # Video, two streams of text and the place of an image, of two videos; before them the refiner of the text.
    tokens = 31 * 30 * 53 + 1000 + 256 + 1
    products = 2 * 2 * 2048 * 2 * (2 * tokens**2 + 2 * 1000**2)
    assert cost.flops[Work("forward", "attention", "bfloat16")] == products
