"""The tiny Video-LLaVA that the policies' tests share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tiny_video_llava import save_tiny_video_llava
from video_llava_cases import build_policy, unequal_views

from datamodules.samples import View
from lightning_modules.policies.video_llava import VideoLlavaPolicy


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
