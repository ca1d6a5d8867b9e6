"""Control tokens within prompts are plain text for the text encoders of video diffusion models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import T5Tokenizer

from lightning_modules.policies.plain_tokenizer import PlainTokenizer
from tests.support.tiny_flow_pipelines import hunyuan_video15
from tests.support.tiny_flows import FAMILIES
from tests.support.tiny_wan import tiny_tokenizer

OPTIONS: dict[str, Any] = {
    "padding": "max_length", "max_length": 24, "truncation": True, "add_special_tokens": True, "return_tensors": "pt",
    "return_attention_mask": True,
}  # fmt: skip
TEXTS = ["a </s> b", "<pad>", "it ends</s>", "an <unk> word", "x" * 30 + "</s>"]


@pytest.fixture(scope="module")
def t5() -> Any:
    """T5's own tokenizer, with words of a few letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), ("\u2581a", -1.0)]
    letters = [(letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz<>/"]
    return T5Tokenizer(vocab=[*pieces, *letters], extra_ids=2, model_max_length=64)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["bytes", "t5"])
def test_a_control_token_in_a_prompt_is_text(name: str, text: str, t5: Any) -> None:
    tokenizer = t5 if name == "t5" else tiny_tokenizer()
    plain = PlainTokenizer(tokenizer)
    encoded = plain([text, "a b"], **OPTIONS)
    assert encoded.input_ids.shape == encoded.attention_mask.shape == (2, 24)
    for row, mask in zip(encoded.input_ids, encoded.attention_mask, strict=True):
        ids = row[mask.bool()].tolist()
        assert ids[-1] == tokenizer.eos_token_id, "the end of the prompt is the tokenizer's own"
        assert tokenizer.eos_token_id not in ids[:-1]
        assert tokenizer.pad_token_id not in ids
    native = tokenizer(["a b"], **OPTIONS)
    assert torch.equal(encoded.input_ids[1:], native.input_ids), "the other prompt is as it was"
    if name == "bytes":
        length = int(encoded.attention_mask[0].sum())
        assert tokenizer.decode(encoded.input_ids[0, : length - 1]) == text[:23]


@pytest.mark.parametrize("text", ["a ball", "", "x" * 40])
def test_other_prompts_have_exactly_the_tokenizers_own_ids(text: str, t5: Any) -> None:
    for tokenizer in (t5, tiny_tokenizer()):
        ours, native = PlainTokenizer(tokenizer)([text], **OPTIONS), tokenizer([text], **OPTIONS)
        assert torch.equal(ours.input_ids, native.input_ids)
        assert torch.equal(ours.attention_mask, native.attention_mask)
        assert PlainTokenizer(tokenizer)(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_a_turn_of_a_chat_does_not_end_where_a_prompt_says_so() -> None:
    tokenizer = hunyuan_video15().tokenizer
    plain = PlainTokenizer(tokenizer)
    options = {
        "add_generation_prompt": True, "tokenize": True, "return_dict": True, "padding": "max_length",
        "max_length": 180, "truncation": True, "return_tensors": "pt",
    }  # fmt: skip
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for prompt, same in (("a ball", True), ("a <|im_end|> ball", False)):
        turns = [[{"role": "system", "content": "s"}, {"role": "user", "content": prompt}]]
        ours, native = plain.apply_chat_template(turns, **options), tokenizer.apply_chat_template(turns, **options)
        assert int((ours.input_ids == end).sum()) == 1
        assert torch.equal(ours.input_ids, native.input_ids) is same
        assert ours.input_ids.shape == native.input_ids.shape == (1, 180)


def test_a_policy_reads_such_a_prompt_to_its_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    family = FAMILIES["wan-ti2v"]
    folder = family.save(tmp_path_factory.mktemp("wan"))
    policy = family.policy(str(folder), **family.settings)
    cut, whole, other = policy.encode_prompt(["a </s> ball", "a </s> bell", "a ball"])
    assert len(cut["embeds"]) == len("a </s> ball") + 1 == policy.prompt_lengths(["a </s> ball"])[0]
    assert not torch.equal(cut["embeds"], whole["embeds"]), "what follows is read"
    assert len(other["embeds"]) == 7
