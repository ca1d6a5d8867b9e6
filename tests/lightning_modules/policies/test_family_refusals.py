"""What no family takes, refused in one line before its weights are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import Gemma4VideoProcessor

from callbacks.reference.cache_writer import ReferenceCacheWriter
from callbacks.reference.model import ReferenceModel
from datamodules.schemas import write_shards
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.any_video_llm import AnyVideoLLM
from lightning_modules.policies.llava_video import LlavaVideoPolicy
from lightning_modules.policies.pllava import PllavaPolicy
from lightning_modules.policies.qwen_vl import QwenVLPolicy
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.vista_dpo import VistaDPO
from tests.support.annotated_videos import annotated, numbered_video
from tests.support.family_cases import FAMILY_PARAMS, LORA, checkpoint, make_policy
from tests.support.pairs_harness import eleven_samples, pairs, trainer
from tests.support.tiny_rows_families import ROWS_BUILDERS


def bare(kind: str, folder: Path, place: Path) -> Path:
    """A checkpoint without its weights: whoever would read them fails in another way."""
    return shutil.copytree(checkpoint(kind, folder), place / kind, ignore=shutil.ignore_patterns("*.safetensors"))


def one_line(raised: pytest.ExceptionInfo[ValueError]) -> str:
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", FAMILY_PARAMS)
def test_a_text_with_the_familys_video_token_is_refused_without_weights(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    policy = make_policy(bare(kind, folder, tmp_path))
    token = policy.processor.video_token
    with pytest.raises(ValueError, match="holds the video token") as raised:
        policy.prompt_length(f"what {token} moves?", "question 'a/1'")
    assert one_line(raised).startswith("question 'a/1': ")
    (fault,) = policy.text_faults("what moves?", {"chosen": f"a {token}", "rejected": "a ball"})
    assert "answer chosen: the answer" in fault
    assert policy.model is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen3_vl", "qwen3_5", "pllava"])  # shards refuse <video> as they are written
def test_a_fit_on_such_a_text_stops_before_weights(kind: str, folder: Path, tmp_path: Path) -> None:
    policy = make_policy(bare(kind, folder, tmp_path), lora=LORA)
    irrelevant = f"It {policy.processor.video_token} rains."
    samples = [annotated(f"s{n}", f"v{n}", {"mp4": numbered_video(n)}, irrelevant=irrelevant) for n in range(2)]
    write_shards([(row.key, members) for row, members in samples], tmp_path / "train", samples_per_shard=4)
    run = trainer(tmp_path, max_steps=1, callbacks=[ReferenceModel()], limit_val_batches=0)
    with pytest.raises(ValueError, match=r"2 of 2 samples cannot be used; .*\n.*sample 's0': .* holds the video token"):
        run.fit(VistaDPO(policy, warmup=0.0), pairs(tmp_path / "train.index.json"))
    assert policy.model is None


@pytest.mark.parametrize("kind", ROWS_BUILDERS)
def test_packed_where_rows_are_needed_is_refused_without_weights(kind: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"policy\.layout is packed, which is not exact") as raised:
        make_policy(bare(kind, folder, tmp_path), layout="packed")
    assert one_line(raised).endswith("leave layout out, or set it to rows")


@pytest.mark.slow
def test_a_cache_made_with_other_defaults_of_the_library_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that leaves a setting to the library, whose next version decides otherwise."""
    path = shutil.copytree(checkpoint("gemma4", folder), tmp_path / "gemma4")
    content = json.loads((path / "processor_config.json").read_text())
    assert content["video_processor"].pop("max_soft_tokens") == Gemma4VideoProcessor.max_soft_tokens == 70
    (path / "processor_config.json").write_text(json.dumps(content))
    shards, index = eleven_samples(tmp_path), str(tmp_path / "cache.index.json")

    def module() -> VistaDPO:
        return VistaDPO(make_policy(path, lora=LORA), warmup=0.0)

    trainer(tmp_path, callbacks=[ReferenceCacheWriter(str(tmp_path / "cache"))]).predict(module(), pairs(shards))
    monkeypatch.setattr(Gemma4VideoProcessor, "max_soft_tokens", 140)
    other = module()
    run = trainer(tmp_path, max_steps=1, callbacks=[ReferenceModel("cached", index)], limit_val_batches=0)
    with pytest.raises(ValueError, match=r"of other views: .*processor.max_pixels was 10080, is 20160") as raised:
        run.fit(other, pairs(shards))
    assert "video_tokens" in one_line(raised)
    assert other.policy.model is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", [QwenVLPolicy, LlavaVideoPolicy, VideoLlavaPolicy, PllavaPolicy, AnyVideoLLM])
def test_an_unknown_model_type_is_named_in_one_line(family: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "seer9"}')
    with pytest.raises(ValueError, match="holds a seer9 model") as raised:
        family(str(tmp_path))
    one_line(raised)


def test_scaled_logits_are_refused(folder: Path, tmp_path: Path) -> None:
    """The head is applied in chunks, where a factor behind it would be left out."""
    path = bare("llava_onevision", folder, tmp_path)
    content = json.loads((path / "config.json").read_text())
    content["text_config"]["logit_scale"] = 0.5
    (path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="scales its logits") as raised:
        make_policy(path)
    one_line(raised)


def test_a_checkpoint_without_a_processor_for_videos_is_refused(folder: Path, tmp_path: Path) -> None:
    path = bare("internvl", folder, tmp_path)
    for file in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (path / file).unlink()
    with pytest.raises(ValueError, match="has no processor that can be read") as raised:
        make_policy(path)
    one_line(raised)
    path = bare("qwen3_vl", folder, tmp_path)
    (path / "processor_config.json").unlink()  # what is left is read as a tokenizer
    with pytest.raises(ValueError, match=r"prepares no videos|has no processor that can be read") as raised:
        make_policy(path)
    one_line(raised)


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
    targets = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)"
    policy = make_policy(checkpoint("qwen3_5", folder), lora=LoraSettings(r=2, targets=targets))
    with pytest.raises(ValueError, match="reaches 1 of 4 blocks"):
        policy.load()
