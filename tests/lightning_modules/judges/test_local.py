"""A local judge, with a tiny random checkpoint of a real image-text model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from lightning_modules.judges.base import PICTURE, JudgeQuestion
from lightning_modules.judges.local import LocalJudge

SIDE, PATCH = 16, 8
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_llava(tmp_path_factory.mktemp("judge") / "tiny-llava")


def save_tiny_llava(folder: Path) -> str:
    """LLaVA of some 30k parameters, with tokenizer and processor."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = byte_tokenizer()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
            patch_size=PATCH,
        ),
        text_config=LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=len(tokenizer), max_position_embeddings=2048, pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // PATCH) ** 2,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = LlavaForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return str(folder)


def byte_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    words = [*names.values(), "<image>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    # Right padding, as many checkpoints have it: the judge must turn it round.
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, additional_special_tokens=["<image>"], padding_side="right", **names
    )


def judge(path: str, **settings: Any) -> LocalJudge:
    return LocalJudge(path, **{"dtype": "float32", "max_new_tokens": 8, **settings})


def frames(count: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randint(0, 256, (count, 3, 20, 24), dtype=torch.uint8, generator=generator))


def pair_question(seed: int, text: str = "Which is better?") -> JudgeQuestion:
    return JudgeQuestion(f"One: {PICTURE * 2} Two: {PICTURE * 2} {text}", frames(4, seed), f"k{seed}", system="Look.")


def test_questions_are_answered_alike_alone_and_in_a_batch(checkpoint: str) -> None:
    asked = [pair_question(1), pair_question(2, "Why, and since when, and which of them?"), JudgeQuestion("Only text?")]
    alone = judge(checkpoint).ask(asked)
    assert len(set(alone)) == 3
    assert judge(checkpoint, batch_size=3).ask(asked) == alone


def test_pictures_count_and_so_does_their_order(checkpoint: str) -> None:
    local = judge(checkpoint)
    asked = pair_question(1)
    swapped = JudgeQuestion(asked.text, list(reversed(asked.images)), asked.key, system=asked.system)
    again, other = local.ask([asked, swapped])
    assert again == local.ask([asked])[0] != other


def test_encoded_pictures_are_decoded(checkpoint: str) -> None:
    (frame,) = frames(1)
    png = cv2.imencode(".png", cv2.cvtColor(frame.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2BGR))[1].tobytes()
    first, second = judge(checkpoint).ask([JudgeQuestion("?", [frame]), JudgeQuestion("?", [png])])
    assert first == second


def test_settings_and_replies_on_disk(checkpoint: str, tmp_path: Path) -> None:
    local = judge(checkpoint, cache=str(tmp_path))
    replies = local.ask([pair_question(1), pair_question(2)])
    again = judge(checkpoint, cache=str(tmp_path))
    again._asked = lambda questions: pytest.fail("asked twice")  # type: ignore[method-assign]
    again.load(torch.device("cpu"))
    assert again.ask([pair_question(2), pair_question(1)]) == replies[::-1]
    assert local.name == "tiny-llava"
    assert local.settings() == {"dtype": "float32", "max_new_tokens": 8, "chat_template": None}


def test_nothing_is_loaded_before_it_is_needed_and_faults_are_told(checkpoint: str, tmp_path: Path) -> None:
    absent = judge(str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="absent cannot judge"):
        absent.load(torch.device("cpu"))
    with pytest.raises(ValueError, match="at least 1"):
        judge(checkpoint, batch_size=0)


def test_another_chat_template_may_be_given(checkpoint: str, tmp_path: Path) -> None:
    path = tmp_path / "template.jinja"
    path.write_text(TEMPLATE.replace("assistant:", "And now?"))
    plain, other = judge(checkpoint), judge(checkpoint, chat_template=str(path))
    assert plain.ask([pair_question(1)]) != other.ask([pair_question(1)])
