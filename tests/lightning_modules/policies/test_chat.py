from __future__ import annotations

from typing import Any

import pytest

from lightning_modules.policies.chat import Chat
from tests.support.tiny_video_llava import save_tiny_video_llava

TEMPLATE = "USER: <video>\n{question} ASSISTANT:"
VIDEO = 5


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A space belongs to the word that follows it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(save_tiny_video_llava(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def sentence_piece() -> Any:
    """As Llama's: every text starts with a space, which is a piece of its own before a letter without a merge."""
    from tokenizers import Tokenizer, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "<video>", *"▁:?\nabcdeghilnostuwyASERUINT", "▁a", "▁y"]
    merges = [("▁", "a"), ("▁", "y")]
    inner = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, merges, unk_token="<unk>"))  # noqa: S106
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    extra = ["<image>", "<video>"]
    return PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=extra, **names)


def chat(tokenizer: Any, template: str = TEMPLATE) -> Chat:
    return Chat(tokenizer, template, "<video>", VIDEO, num_video_tokens=6)


@pytest.mark.parametrize("kind", ["byte_level", "sentence_piece"])
@pytest.mark.parametrize("answer", ["a ball", "yes", "the other", "  yes\n"])
def test_prompt_and_answer_have_the_ids_of_the_whole_text(
    kind: str, answer: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(kind)
    ours = chat(tokenizer)
    prompt, reply = ours.prompt_ids("what is it?", "here"), ours.answer_ids(answer, "here")
    whole = tokenizer("USER: " + "<video>" * 6 + f"\nwhat is it? ASSISTANT: {answer.strip()}</s>")["input_ids"]
    assert prompt + reply == whole
    assert ours.tokenizer.decode(reply, skip_special_tokens=True).strip() == answer.strip() or kind == "sentence_piece"


@pytest.mark.parametrize("kind", ["byte_level", "sentence_piece"])
@pytest.mark.parametrize("answer", ["", " ", "\n\t"])
def test_an_answer_of_nothing_is_refused(kind: str, answer: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(ValueError, match=r"answer chosen: .* tokenises to nothing"):
        chat(request.getfixturevalue(kind)).answer_ids(answer, "view original, answer chosen")


def test_a_template_that_ends_in_white_space_gets_no_second_space(byte_level: Any) -> None:
    ours = chat(byte_level, "<video>{question}\n")
    assert ours.answer_ids("a", "here") == [byte_level.convert_tokens_to_ids("a"), byte_level.eos_token_id]


def test_a_template_that_ends_in_the_question_works_too(byte_level: Any) -> None:
    ours = chat(byte_level, "<video> {question}")
    assert ours.answer_ids("a", "here") == [byte_level.convert_tokens_to_ids("Ġa"), byte_level.eos_token_id]


def test_braces_in_a_question_are_text(byte_level: Any) -> None:
    ours = chat(byte_level)
    assert "{question} {0}" in byte_level.decode(ours.prompt_ids("{question} {0}", "here"))


def test_a_tokenizer_of_another_checkpoint_is_refused(byte_level: Any) -> None:
    with pytest.raises(ValueError, match="video_token_index is 7"):
        Chat(byte_level, TEMPLATE, "<video>", 7, 6)


def test_a_prompt_never_ends_in_the_end_of_sequence(byte_level: Any) -> None:
    from tokenizers import processors

    byte_level = type(byte_level)(tokenizer_object=byte_level.backend_tokenizer, **byte_level.special_tokens_map)
    closing = [("<s>", 1), ("</s>", 2)]
    byte_level.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=closing)
    assert byte_level("a")["input_ids"][-1] == 2
    ids = chat(byte_level).prompt_ids("a", "here")
    assert (ids[0], ids.count(1), ids.count(2)) == (1, 1, 0)
