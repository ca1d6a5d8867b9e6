"""The computed table of memory: its parts are checked, and the page holds what the command prints."""

from __future__ import annotations

import re

import pytest
import torch
from transformers import Gemma4TextConfig, Gemma4TextModel, Qwen3_5Config, Qwen3_5ForConditionalGeneration
from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize

from benchmarks.speed.families import FAMILIES, table
from lightning_modules.policies.any_video_llm import LINEARS
from tests.support.paths import ROOT


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("llava-hf/llava-onevision-qwen2-7b-ov-hf", 8.03e9),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 8.29e9),
        ("Qwen/Qwen3-VL-8B-Instruct", 8.77e9),
        ("zai-org/GLM-4.6V-Flash", 10.29e9),
        ("HuggingFaceTB/SmolVLM2-2.2B-Instruct", 2.25e9),
        ("lkhl/VideoLLaMA3-2B-Image-HF", 1.96e9),
        ("google/gemma-4-E4B-it", 8.0e9),
    ],
)
def test_parameters_are_those_of_the_published_models(name: str, published: float) -> None:
    assert FAMILIES[name].parameters == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(("name", "factor"), [("Qwen/Qwen2.5-VL-7B-Instruct", 28), ("Qwen/Qwen3-VL-8B-Instruct", 32)])
def test_video_tokens_are_those_of_eight_frames(name: str, factor: int) -> None:
    rows, columns = smart_resize(360, 640, factor, 128 * factor**2, 768 * factor**2)
    assert FAMILIES[name].video_tokens == 4 * (rows // factor) * (columns // factor)


def test_a_hybrid_decoders_linears_are_those_of_the_real_class() -> None:
    """Every linear of the blocks, by the class itself at the same sizes, without weights."""
    with torch.device("meta"):
        decoder = Qwen3_5ForConditionalGeneration(Qwen3_5Config()).get_decoder()
    linears = [module for module in decoder.layers.modules() if isinstance(module, torch.nn.Linear)]
    assert FAMILIES["Qwen/Qwen3.5-9B"].blocks == sum(linear.weight.numel() for linear in linears)
    assert len(FAMILIES["Qwen/Qwen3.5-9B"].linears) == len(linears)


def test_the_linears_of_a_decoder_that_shares_keys_are_those_of_the_real_class() -> None:
    sizes = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 42, "num_attention_heads": 8}
    kinds = ["full_attention" if block % 6 == 5 else "sliding_attention" for block in range(42)]
    config = Gemma4TextConfig(**sizes, num_key_value_heads=2, num_kv_shared_layers=18, layer_types=kinds)
    with torch.device("meta"):
        decoder = Gemma4TextModel(config)
    own = re.compile(LINEARS["gemma4"].removeprefix(r".*language_model\."))
    linears = [module for name, module in decoder.named_modules() if own.fullmatch(name)]
    family = FAMILIES["google/gemma-4-E4B-it"]
    assert family.blocks == sum(linear.weight.numel() for linear in linears)
    assert len(family.linears) == len(linears)
    # The rest of the decoder: embeddings of tokens and of blocks, and their projections; norms are small.
    rest = sum(weight.numel() for weight in decoder.parameters()) - family.blocks
    towers = 0.17e9 + 0.3e9
    assert family.parameters - family.blocks - towers == pytest.approx(rest, rel=1e-3)


def test_adapters_and_tokens_are_counted() -> None:
    decoder = FAMILIES["LanguageBind/Video-LLaVA-7B-hf"]
    # Four square matrices and three of the feed-forward part, rank 16: 16 x (4 x 8192 + 3 x 15104) a block.
    assert decoder.adapter == 32 * 16 * (4 * 8192 + 3 * 15104)
    assert decoder.tokens == 6 * (2056 + 60) + 8 * 40
    assert FAMILIES["Qwen/Qwen3.5-9B"].tokens == 8 * (880 + 60 + 40)  # a row an answer


def test_the_page_holds_the_commands_table() -> None:
    assert table() in (ROOT / "docs/families.md").read_text()
