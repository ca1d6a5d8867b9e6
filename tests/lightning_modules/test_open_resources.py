"""Whatever judges and policies open, they close: after their work, and after an error."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from safetensors.torch import save_file

from lightning_modules.file_contents import contents_of
from lightning_modules.judges import cache as judges_cache
from lightning_modules.judges.base import JudgeQuestion
from lightning_modules.judges.cache import ReplyCache
from lightning_modules.judges.recorded import ReplyLog
from lightning_modules.policies.flow_adapters import _bare_adapter
from lightning_modules.policies.flow_model import autoencoder_tensors
from lightning_modules.policies.pllava_weights import _tensors, weight_names
from tests.support.chat_server import ChatServer
from tests.support.endpoint_cases import judge, questions
from tests.support.open_resources import record_calls


@pytest.fixture
def descriptors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every file that `os.open` opened."""
    return record_calls(monkeypatch, os, "open")


def require_closed_descriptors(descriptors: list[int]) -> None:
    assert descriptors, "the code no longer opens it where the test looks"
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_log_of_replies_is_closed_after_each_write(
    tmp_path: Path, descriptors: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ReplyLog(tmp_path / "replies.jsonl")
    question = JudgeQuestion("which is better?", key="a")
    log.write([question], ["the first"])
    require_closed_descriptors(descriptors)

    def full(descriptor: int, content: bytes) -> int:
        raise OSError("no space left")

    descriptors.clear()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="no space left"):
        log.write([question], ["the second"])
    require_closed_descriptors(descriptors)


@pytest.mark.parametrize("fails", [False, True])
def test_a_question_in_the_cache_is_locked_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    locks = record_calls(monkeypatch, judges_cache, "FileLock")

    def ask() -> str:
        assert locks[-1].is_locked
        if fails:
            raise OSError("away")
        return "a reply"

    if fails:
        with pytest.raises(OSError, match="away"):
            ReplyCache(tmp_path).reply("ab" * 32, ask)
    else:
        ReplyCache(tmp_path).reply("ab" * 32, ask)
    assert [lock.is_locked for lock in locks] == [False]


def test_an_endpoints_threads_end_with_its_questions(chat: ChatServer, cache: str) -> None:
    before = set(threading.enumerate())
    asked = judge(cache)
    asked.ask(questions(3))
    chat.answer = lambda body, number: (401, {}, "")
    with pytest.raises(ValueError, match="401"):
        asked.ask(questions(6))
    assert [thread.name for thread in set(threading.enumerate()) - before if "ThreadPool" in thread.name] == []


class Policy:
    """Names a folder of weights."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder)


def test_hashing_threads_end_also_when_a_file_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = set(threading.enumerate())
    assert contents_of(Policy(tmp_path))

    def unreadable(file: Path) -> str:
        raise PermissionError(f"{file} cannot be read")

    monkeypatch.setattr("lightning_modules.file_contents.file_hash", unreadable)
    with pytest.raises(PermissionError):
        contents_of(Policy(tmp_path))
    assert set(threading.enumerate()) == before


class Weights:
    """A file of weights that notes when it is left."""

    opened: list[Weights]

    def __init__(self, *arguments: Any) -> None:
        self.inner, self.closed = ORIGINAL(*arguments), False
        self.opened.append(self)

    def __enter__(self) -> Any:
        return self.inner.__enter__()

    def __exit__(self, *error: object) -> None:
        self.inner.__exit__(*error)
        self.closed = True


ORIGINAL = safetensors.safe_open


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[Weights]:
    """Every file of weights that was opened."""
    Weights.opened = []
    monkeypatch.setattr(safetensors, "safe_open", Weights)
    return Weights.opened


def test_files_of_weights_are_closed(tmp_path: Path, weights: list[Weights]) -> None:
    """Their pages stay mapped until then, and on Windows nobody can replace the file."""
    file, autoencoder = tmp_path / "pytorch_lora_weights.safetensors", tmp_path / "vae"
    autoencoder.mkdir()
    save_file({"block.lora_A.weight": torch.zeros(2, 3)}, file)
    save_file({"conv": torch.zeros(2)}, autoencoder / "diffusion_pytorch_model.safetensors")
    assert list(_bare_adapter(str(tmp_path))[0]) == ["transformer.block.lora_A.weight"]
    assert list(autoencoder_tensors(str(tmp_path), ["conv"])) == ["conv"]
    assert autoencoder_tensors(str(tmp_path), ["another"]) == {}
    assert weight_names(str(tmp_path)) == ["block.lora_A.weight"]
    assert [name for name, _ in _tensors(str(tmp_path))] == ["block.lora_A.weight"]
    assert len(weights) == 5
    assert all(file.closed for file in weights)
