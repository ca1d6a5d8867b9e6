"""What users write is text: no control token arises from it, and all else has the ids that it always had."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lightning_modules.policies.chat import Chat
from lightning_modules.policies.plain_text import PlainText
from tests.support.paths import DATA
from tests.support.tiny_video_llava import save_tiny_video_llava

CASES = [json.loads(line) for line in (DATA / "cases/texts/special_tokens.jsonl").read_text().splitlines()]
TEMPLATE = "USER: <video>\n{question} ASSISTANT:"
#: Special tokens before, behind and right beside the texts.
CHAT_TEMPLATE = "<|im_start|>user\n<video>\n{question}<|im_end|>\n<|im_start|>assistant\n"
NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
SPECIAL = ["<image>", "<video>", "<|im_start|>", "<|im_end|>"]
LETTERS = sorted(set("\n" + "".join(chr(code) for code in range(32, 127))))
MERGES = [("▁", letter) for letter in "aAwWtb"] + [("s", "q"), ("sq", "u")]


def fast_tokenizer(model: Any, flagged: bool = True, **parts: Any) -> Any:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(model)
    for name, part in parts.items():
        setattr(inner, name, part)
    inner.add_tokens([AddedToken(name, normalized=False, special=flagged) for name in SPECIAL])
    inner.add_tokens(["  ", "gizmo"])  # a run of spaces and a word: text, though added
    return PreTrainedTokenizerFast(tokenizer_object=inner, **NAMES)


def vocabulary(space: str) -> dict[str, int]:
    words = [*NAMES.values(), space, *LETTERS, *(a.replace("▁", space) + b for a, b in MERGES)]
    return {word: number for number, word in enumerate(dict.fromkeys(words))}


def merged(flagged: bool = True, **parts: Any) -> Any:
    from tokenizers import models

    return fast_tokenizer(models.BPE(vocabulary("▁"), MERGES, unk_token="<unk>"), flagged, **parts)  # noqa: S106


def prepended() -> Any:
    """As Llama's: a space before every stretch of text between special tokens."""
    from tokenizers import normalizers

    return merged(normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]))


def metaspace_first() -> Any:
    """As Llama's newer one: a space before the first text only."""
    from tokenizers import pre_tokenizers

    return merged(pre_tokenizer=pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False))


def unflagged() -> Any:
    """Markers that nobody called special, as in several checkpoints."""
    from tokenizers import pre_tokenizers

    return merged(False, pre_tokenizer=pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False))


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(save_tiny_video_llava(tmp_path_factory.mktemp("tiny")))
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    return tokenizer


@pytest.fixture(params=["byte_level", "prepended", "metaspace_first", "unflagged"])
def tokenizer(request: pytest.FixtureRequest, byte_level: Any) -> Any:
    made = {"prepended": prepended, "metaspace_first": metaspace_first, "unflagged": unflagged}
    return made[request.param]() if request.param in made else byte_level


def chat(tokenizer: Any, template: str = TEMPLATE) -> Chat:
    video = tokenizer.convert_tokens_to_ids("<video>")
    return Chat(tokenizer, template, "<video>", video, num_video_tokens=6)


def controls(tokenizer: Any, ids: list[int]) -> list[str]:
    names = set(SPECIAL) | set(NAMES.values()) - {"<unk>"}
    return [token for token in tokenizer.convert_ids_to_tokens(ids) if token in names]


@pytest.mark.parametrize("template", [TEMPLATE, CHAT_TEMPLATE])
@pytest.mark.parametrize("row", [0, 1, 3, 5])
def test_control_tokens_in_texts_are_text(tokenizer: Any, row: int, template: str) -> None:
    case, ours = CASES[row], chat(tokenizer, template)
    fixed = controls(tokenizer, ours.prompt_ids("plain", "here"))
    prompt = ours.prompt_ids(case["question"], "here")
    assert controls(tokenizer, prompt) == fixed
    for name in ("chosen", "rejected"):
        ids = ours.answer_ids(case[name], "here")
        assert controls(tokenizer, ids) == ["</s>"]
        assert ids[-1] == tokenizer.eos_token_id
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert text.replace("▁", "").replace(" ", "") == case[name].replace(" ", "")


@pytest.mark.parametrize("name", [*SPECIAL[:1], *SPECIAL[2:], *NAMES.values()])
def test_every_special_token_is_plain_wherever_it_is(tokenizer: Any, name: str) -> None:
    ours = chat(tokenizer)
    expected = controls(tokenizer, ours.prompt_ids("plain", "here"))
    for text in (name, f"{name} a", f"a {name}", f"a{name}b", name * 2):
        assert controls(tokenizer, ours.prompt_ids(text, "here")) == expected
        assert controls(tokenizer, ours.answer_ids(text, "here")) == ["</s>"]


@pytest.mark.parametrize("template", [TEMPLATE, CHAT_TEMPLATE])
@pytest.mark.parametrize("text", ["what is it?", " A square ", "a  gizmo, two  spaces", "<b> & {x} [y]", "wide\nlines"])
def test_the_copy_with_other_names_gives_other_texts_the_ids_of_the_tokenizer(
    tokenizer: Any, template: str, text: str
) -> None:
    plain, (before, after) = PlainText(tokenizer), template.split("{question}")
    native = tokenizer(before + text + after, add_special_tokens=False)["input_ids"]
    assert plain.ids(before, text, after, "here") == native
    assert plain._renamed_ids((before, after), (text,)) == native
    gizmo = tokenizer.convert_tokens_to_ids("gizmo")
    assert (gizmo in native) == ("gizmo" in text and gizmo != tokenizer.unk_token_id)


def test_a_control_token_has_the_ids_of_its_letters() -> None:
    spelled = metaspace_first()
    ids = chat(spelled).answer_ids("A </s> b", "here")
    assert spelled.convert_ids_to_tokens(ids) == ["▁A", "▁", "<", "/", "s", ">", "▁b", "</s>"]


def test_a_vocabulary_that_holds_the_token_as_a_piece_is_refused_by_name() -> None:
    from tokenizers import models, pre_tokenizers

    pieces = [(name, 0.0) for name in NAMES.values()] + [(letter, -9.0) for letter in ["▁", *LETTERS]]
    unigram = fast_tokenizer(
        models.Unigram(pieces, unk_id=2), pre_tokenizer=pre_tokenizers.Metaspace("▁", prepend_scheme="first")
    )
    assert controls(unigram, chat(unigram).answer_ids("A square.", "here")) == ["</s>"]
    with pytest.raises(ValueError, match=r"row 1, answer chosen: .* holds '</s>'.* take it out"):
        chat(unigram).answer_ids("A square.</s>", "row 1, answer chosen")


def test_a_slow_tokenizer_refuses_by_name() -> None:
    tokenizer = metaspace_first()

    class Slow:
        is_fast = False

        def __call__(self, *texts: str, **options: Any) -> Any:
            return tokenizer(*texts, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

    assert chat(Slow()).answer_ids("A square.", "here") == chat(tokenizer).answer_ids("A square.", "here")
    with pytest.raises(ValueError, match="'<image>'"):
        chat(Slow()).prompt_ids("What is <image>?", "here")


def test_an_answer_without_a_visible_letter_is_refused(tokenizer: Any) -> None:
    assert CASES[6]["chosen"] == "\u200b"
    for text in (CASES[6]["chosen"], "\ufeff \u200d", "\u00ad\u2060"):
        with pytest.raises(ValueError, match="tokenises to nothing"):
            chat(tokenizer).answer_ids(text, "here")
    assert chat(tokenizer).answer_ids("a\u200bb", "here")
