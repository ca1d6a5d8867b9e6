"""Texts that a policy cannot take are all known before the first step, and skipped where that is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks.reference.model import ReferenceModel
from datamodules.schemas import write_shards
from datamodules.vista import vista_pairs
from datamodules.vista.samples import View
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.vista_dpo import VistaDPO, VistaWeights
from tests.support.annotated_videos import annotated, numbered_video
from tests.support.pairs_harness import pairs, trainer
from tests.support.preference_fakes import TinyPolicy
from tests.support.tiny_video_llava import NUM_FRAMES, save_tiny_video_llava

COUNT, LONG = 15, "word " * 200


class Strict(TinyPolicy):
    """Takes no text of more than 100 characters, and stops at one in a step as a real policy does."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def text_faults(
        self,
        prompt: str,
        answers: Mapping[str, str],
        shape: tuple[int, int, int] | None = None,
        turns: Sequence[tuple[str, str]] = (),
    ) -> list[str]:
        self.asked += 1
        return [f"answer {name} has {len(text)} characters" for name, text in answers.items() if len(text) > 100]

    def encode(self, views: list[Any], keep_hidden: Any = ()) -> Any:
        for view in views:
            if self.text_faults(view.prompt, view.answers):
                raise ValueError("too long, at step 900")
        return super().encode(views, keep_hidden)


def shards(folder: Path, long: tuple[int, ...]) -> Path:
    samples = []
    for number in range(COUNT):
        irrelevant, video = LONG if number in long else "Rain.", {"mp4": numbered_video(number)}
        samples.append(annotated(f"s{number:02d}", f"video{number}", video, irrelevant=irrelevant))
    write_shards([(row.key, members) for row, members in samples], folder / "train", samples_per_shard=4)
    return folder / "train.index.json"


def method(policy: torch.nn.Module) -> VistaDPO:
    weights = VistaWeights(video=0, clip=0, object=0, token=0)
    return VistaDPO(policy, lambda parameters: torch.optim.SGD(parameters, lr=0.01), weights=weights, warmup=0.0)


def fit(folder: Path, data: VistaPairs, module: VistaDPO) -> None:
    run = trainer(folder, max_steps=8, num_sanity_val_steps=0, limit_val_batches=0, callbacks=[ReferenceModel()])
    run.fit(module, data)


def test_all_samples_are_listed_before_the_first_step(tmp_path: Path) -> None:
    path = shards(tmp_path, tuple(range(2, 15)))
    module = method(Strict())
    with pytest.raises(ValueError, match="samples cannot be used") as error:
        fit(tmp_path, pairs(path), module)
    title, *lines = str(error.value).splitlines()
    assert title.startswith(f"{path}: 13 of 15 samples cannot be used; ")
    assert "data.on_bad_sample: skip" in title
    assert len(lines) == 11
    assert lines[0].endswith("train-000000.tar: sample 's02': answer irrelevant has 1000 characters")
    assert lines[-1] == "  and 3 more"
    assert module.global_step == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_that_may_be_skipped_are_skipped_where_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(vista_pairs, "rank_zero_warn", warnings.append)
    data = pairs(shards(tmp_path, (3, 7)), on_bad_sample="skip", num_workers=workers)
    module = method(Strict())
    fit(tmp_path, data, module)
    assert module.global_step == 8
    assert set(data.bad_samples) == {"s03", "s07"}
    assert "sample 's07': answer irrelevant has 1000 characters" in data.bad_samples["s07"]
    (line,) = warnings
    assert line.splitlines()[0].endswith("2 of 15 samples cannot be used, and are skipped:")
    assert len(line.splitlines()) == 3


def test_more_than_may_be_skipped_stop_the_run_before_it_begins(tmp_path: Path) -> None:
    data = pairs(shards(tmp_path, (3, 7)), on_bad_sample="skip", max_bad_samples=1)
    with pytest.raises(ValueError, match=r"cannot be used, data\.max_bad_samples allows 1:\n"):
        fit(tmp_path, data, method(Strict()))


def test_answers_that_no_term_scores_are_not_looked_at_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    class Chosen(VistaDPO):
        def needs(self) -> Any:
            return {"original": ("chosen",)}

    policy = Strict()
    module = Chosen(policy, lambda parameters: torch.optim.SGD(parameters, lr=0.01), weights=VistaWeights(), warmup=0.0)
    data = pairs(shards(tmp_path, (3,)))
    run = trainer(tmp_path)
    run.strategy._lightning_module = module
    data.trainer = module.trainer = run
    for _ in range(2):
        assert data.text_faults("train", policy.text_faults) == []
    assert policy.asked == COUNT


def test_prefix_with_video_and_answer_are_counted_against_the_positions(tmp_path: Path) -> None:
    policy = VideoLlavaPolicy(str(save_tiny_video_llava(tmp_path)), num_frames=NUM_FRAMES)
    policy.load(meta=True)
    assert policy.chat is not None
    prefix = len(policy.chat.prompt_ids("what moves?", "here"))
    room = policy.config.text_config.max_position_embeddings - prefix - 1
    # A letter is a token, behind the space that belongs to the first.
    assert policy.text_faults("what moves?", {"chosen": "1" * (room - 1), "rejected": "a"}) == []
    (fault,) = policy.text_faults("what moves?", {"chosen": "1" * room, "rejected": "a"})
    assert "513 tokens, the checkpoint has 512 positions" in fault


def test_the_turns_of_a_conversation_are_counted_together(tmp_path: Path) -> None:
    """Each of them fits by itself; what is shown is all of them."""
    policy = VideoLlavaPolicy(str(save_tiny_video_llava(tmp_path / "tiny")), num_frames=NUM_FRAMES)
    policy.load(meta=True)
    question, answers = "What moves?", {"chosen": "A disc.", "rejected": "A box."}

    def conversation(letters: int) -> tuple[tuple[str, str], ...]:
        return (("1" * 150, "2"), ("what else?", "3" * letters))

    shortest = policy.prompt_length(question, "here", conversation(1)) + len(policy.answer_ids("A disc.", "here"))
    room = policy.config.text_config.max_position_embeddings - shortest
    fits, too_long = conversation(1 + room), conversation(2 + room)
    view = View(0, "original", torch.zeros(NUM_FRAMES, 3, 16, 16, dtype=torch.uint8), question, answers, None, fits)
    assert policy.prompt_length(question, "here", fits) == len(policy.prefix(view, "here").ids)
    assert policy.text_faults(question, answers, None, fits) == []
    (fault,) = policy.text_faults(question, answers, None, too_long)
    assert "513 tokens, the checkpoint has 512 positions" in fault

    rows = [annotated(f"s{number}", turns=turns) for number, turns in enumerate((fits, too_long))]
    write_shards([(row.key, members) for row, members in rows], tmp_path / "train", samples_per_shard=4)
    data, run = pairs(tmp_path / "train.index.json"), trainer(tmp_path)
    run.strategy._lightning_module = method(policy)
    data.trainer = run
    (fault,) = data.text_faults("train", policy.text_faults)
    assert "1 of 2 samples cannot be used" in fault
    assert "sample 's1': its texts: 513 tokens, the checkpoint has 512 positions" in fault
