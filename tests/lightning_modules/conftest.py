"""The tiny Video-LLaVA that the policies' tests share, and the chat server of the judges'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from datamodules.vista.samples import View
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support.chat_server import ChatServer, chat_server
from tests.support.endpoint_cases import KEY
from tests.support.tiny_video_llava import save_tiny_video_llava
from tests.support.video_llava_cases import build_policy, unequal_views


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder; tests read it only."""
    return save_tiny_video_llava(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def make(checkpoint: Path) -> Callable[..., VideoLlavaPolicy]:
    """A loaded policy with the given settings, whose fresh adapter is not zero."""
    return partial(build_policy, checkpoint)


@pytest.fixture(scope="module")
def views() -> list[View]:
    """Views that are unequal in everything."""
    return unequal_views()


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A chat server on loopback that the environment names, and its key."""
    with chat_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_MODEL", "looks-7")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> str:
    """A folder for its replies."""
    return str(tmp_path / "cache")
