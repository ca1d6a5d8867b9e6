"""The image of a prompt: found by its text, cut to the video's shape from the middle, at the video's size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lightning_modules.predict.prompt_images import PromptImages


def test_the_middle_of_a_wide_image_is_taken(tmp_path: Path) -> None:
    picture = np.zeros((32, 96, 3), np.uint8)
    picture[:, 32:64] = (0, 0, 255)  # red in the middle, as OpenCV orders colours
    cv2.imwrite(str(tmp_path / "a ball.png"), picture)
    frame = PromptImages(str(tmp_path), 16, 16).frame("a ball")
    assert frame.shape == (1, 3, 16, 16)
    assert frame.dtype == torch.uint8
    assert frame.amin(dim=(0, 2, 3)).tolist() == frame.amax(dim=(0, 2, 3)).tolist() == [255, 0, 0]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.images: no folder"):
        PromptImages(str(tmp_path / "absent"), 16, 16)
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((8, 8, 3), np.uint8))
    images = PromptImages(str(tmp_path), 16, 16)
    images.require(["a"])
    with pytest.raises(ValueError, match="no image of 2 prompts, 'b', 'c'; add them"):
        images.require(["a", "b", "c"])
