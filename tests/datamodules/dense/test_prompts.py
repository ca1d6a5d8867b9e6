"""Prompts from a text file: every request once over ranks, under a name that depends on prompt and index alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from datamodules.dense.prompts import PromptBatch, Prompts, request_key
from datamodules.shards.index import key_fault


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeffA dog runs.\r\n\r\n  Ein H\u00fcndchen. \n...\n", encoding="utf-8")
    return path


def batches(data: Prompts, rank: int = 0, world: int = 1) -> list[PromptBatch]:
    data.trainer = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": world, "rank": rank})  # type: ignore[assignment]
    data.setup("predict")
    return list(data.predict_dataloader())


def test_each_prompt_is_asked_for_several_times(file: Path) -> None:
    read = batches(Prompts(str(file), num_samples=2, batch_size=4))
    assert [batch.mask.tolist() for batch in read] == [[True] * 4, [True, True, False, False]]
    asked = [pair for batch in read for pair in zip(batch.prompts, batch.index, strict=True)][:6]
    assert asked == [(prompt, index) for prompt in ("A dog runs.", "Ein H\u00fcndchen.", "...") for index in (0, 1)]


def test_names_are_legal_and_stay_when_the_file_changes(file: Path) -> None:
    before = Prompts(str(file), num_samples=2)
    before.setup("predict")
    assert len(set(before.keys)) == 6
    assert all(key_fault(key) is None for key in before.keys)
    assert before.keys[0].startswith("A-dog-runs-")
    file.write_text("New.\n...\nA dog runs.\n")
    after = Prompts(str(file), num_samples=1)
    after.setup("predict")
    assert set(after.keys) & set(before.keys) == {request_key("...", 0), request_key("A dog runs.", 0)}
    assert after.fingerprint != before.fingerprint
    assert key_fault(request_key("a/b.c " * 100, 3)) is None
    assert len(request_key("a/b.c " * 100, 3)) < 70


def test_ranks_share_what_is_left(file: Path) -> None:
    ranks = []
    for rank in range(2):
        data = Prompts(str(file), num_samples=3)
        data.setup("predict")
        data.skip([*data.keys[:4], "none"])
        ranks.append(batches(data, rank, 2))
    assert [len(rank) for rank in ranks] == [3, 3]
    seen = [key for rank in ranks for batch in rank for key, real in zip(batch.keys, batch.mask, strict=True) if real]
    assert sorted(seen) == sorted(data.keys[4:])
    data.skip(data.keys)
    assert batches(data) == []


def test_a_limit_counts_prompts(file: Path) -> None:
    data = Prompts(str(file), num_samples=2, limit=1)
    data.setup("predict")
    assert [(request.prompt, request.index) for request in data.requests] == [("A dog runs.", 0), ("A dog runs.", 1)]


def test_bad_files_and_options_are_told(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    for content, message in (
        (b"\n \n", "holds no prompt"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"One.\nTwo.\nOne. \nTwo.", r"(?s)come twice.*line 3 repeats line 1: One\..*line 4 repeats line 2: Two\."),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            Prompts(str(path)).setup("predict")
    with pytest.raises(ValueError, match="no such file"):
        Prompts(str(tmp_path / "none.txt")).setup("predict")
    for options in ({"num_samples": 0}, {"batch_size": 0}, {"limit": 0}):
        with pytest.raises(ValueError, match="is 0; give 1 or more"):
            Prompts(str(path), **options)
