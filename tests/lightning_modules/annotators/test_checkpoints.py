"""Real detectors and image-text models, tiny and with random weights, through the seams of `GroundingAnnotator`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightning_modules.annotators.frame_text import FrameTextScorer
from lightning_modules.annotators.zero_shot import ZeroShotDetector
from tests.support.tiny_grounders import save_clip, save_grounding_dino, save_other, save_owlv2, save_siglip

pytestmark = pytest.mark.slow

SAVE: dict[str, Callable[[Path], str]] = {
    "owlv2": save_owlv2,
    "grounding_dino": save_grounding_dino,
    "clip": save_clip,
    "siglip": save_siglip,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("grounders")
    return {name: save(root / name) for name, save in SAVE.items()}


def frames(count: int = 3, height: int = 24, width: int = 60) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("kind", ["owlv2", "grounding_dino"])
def test_the_best_box_in_pixels_of_the_frame(folders: dict[str, str], kind: str) -> None:
    detector = ZeroShotDetector(folders[kind], frames_at_once=2)
    found = detector.detect(frames(), "red dog")
    assert len(found) == 3
    model, processor = detector.loaded()
    text = [["a photo of a red dog"]] if kind == "owlv2" else ["a red dog."]
    for frame, box in zip(frames(), found, strict=True):
        inputs = processor(text=text, images=[frame], return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        # OWLv2 pads a frame to a square, below or to the right; Grounding DINO stretches nothing but sees it whole.
        scale = torch.tensor([60.0, 60.0] if kind == "owlv2" else [60.0, 24.0])
        scores = outputs.logits[0].sigmoid().amax(-1)
        center, size = (outputs.pred_boxes[0, scores.argmax()].view(2, 2) * scale).unbind()
        low, high = (center - size / 2).clamp(min=0), torch.minimum(center + size / 2, torch.tensor([60.0, 24.0]))
        if ((high - low) < 1).any():
            assert box is None
            continue
        assert box is not None
        assert box.confidence == pytest.approx(float(scores.max()), abs=1e-5)
        assert [box.x, box.y, box.width, box.height] == pytest.approx([*low.tolist(), *(high - low).tolist()], abs=1e-3)
    assert any(box is not None for box in found)


@pytest.mark.parametrize("kind", ["owlv2", "grounding_dino"])
def test_the_phrase_is_read(folders: dict[str, str], kind: str) -> None:
    detector = ZeroShotDetector(folders[kind])
    assert detector.detect(frames(), "red dog") != detector.detect(frames(), "zoo")
    assert detector.detect(frames(), "red dog") == detector.detect(frames(), "red dog")
    assert detector.summary() == ""
    detector.detect(frames(1), "a dog of many, many, many colours" * 3)
    assert detector.summary() == f"{kind} read the beginnings of 1 phrases, which are longer than its text tower takes"


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_scores_are_the_models_own_logits(folders: dict[str, str], kind: str) -> None:
    scorer = FrameTextScorer(folders[kind], frames_at_once=2)
    texts = ["a dog", "cats"]
    scores = scorer.score(frames(), texts)
    assert scores.shape == (3, 2)
    model, processor = scorer.loaded()
    padding = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {"padding": True}
    with torch.no_grad():
        inputs = processor(text=texts, images=list(frames()), return_tensors="pt", **padding)
        expected = model(**inputs).logits_per_image
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
    assert scores[:, 0].tolist() != scores[:, 1].tolist()
    assert scorer.summary() == ""
    scorer.score(frames(), ["a long story of many dogs and cats", *texts])
    assert scorer.summary().startswith(f"{kind} read the beginnings of 1 texts")


def test_a_checkpoint_of_another_kind(folders: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clip cannot detect objects: it is of the type 'clip'; give .* owlv2 or"):
        ZeroShotDetector(folders["clip"]).check()
    with pytest.raises(ValueError, match=r"cannot compare frames with texts: it is of the type 'owlv2'"):
        FrameTextScorer(folders["owlv2"]).check()
    with pytest.raises(ValueError, match=r"cannot detect objects: it is of the type 'bert'"):
        ZeroShotDetector(save_other(tmp_path / "bert")).check()
    with pytest.raises(ValueError, match="cannot detect objects"):
        ZeroShotDetector(str(tmp_path / "none")).check()
    with pytest.raises(ValueError, match=r"lacks \{phrase\}"):
        ZeroShotDetector("x", prompt="a dog")
    with pytest.raises(ValueError, match=r"detector\.frames_at_once is 0; give at least 1"):
        ZeroShotDetector("x", frames_at_once=0)
    with pytest.raises(ValueError, match=r"scorer\.frames_at_once is 0; give at least 1"):
        FrameTextScorer("x", frames_at_once=0)
