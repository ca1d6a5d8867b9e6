"""The real networks with small random weights: preprocessed as published, and told apart by their weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.vbench.motion import AmtInterpolation, BlendInterpolation, centred, flow_facts
from benchmarks.vbench.networks import AestheticScore, ClipFeatures, DinoFeatures, MusiqScore
from benchmarks.vbench.weights import identity, weights_differ
from datamodules.video.optical_flow import DisFlow, RaftFlow
from tests.support.paths import DATA
from tests.support.vbench_samples import save_clip, save_dino, save_head, save_raft

GOLDEN_HEAD = DATA / "laion_aesthetic" / "sa_0_4_vit_l_14_linear.pth"


def noise(*size: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def standardised(pixels: Tensor, mean: list[float], deviation: list[float]) -> Tensor:
    return (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_clip(tmp_path_factory.mktemp("clip"))


def test_dino_sees_the_whole_frame_on_its_own_grid_of_positions(dino: str) -> None:
    network = DinoFeatures(dino)
    network.load()
    frames = noise(48, 90)
    pixels = F.interpolate(frames.float(), size=(224, 420), mode="bilinear")
    pixels = standardised(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    # The steps of the published model: patches, a class token, positions resized by (patches + 0.1) / side.
    vit = network.vit
    with torch.no_grad():
        patches = vit.embeddings.patch_embeddings.projection(pixels).flatten(2).transpose(1, 2)
        stored = vit.embeddings.position_embeddings
        grid = stored[:, 1:].transpose(1, 2).reshape(1, -1, 4, 4)
        grid = F.interpolate(grid, scale_factor=(14.1 / 4, 26.1 / 4), mode="bicubic")
        assert grid.shape[2:] == (14, 26)
        tokens = torch.cat([vit.embeddings.cls_token.expand(2, -1, -1), patches], 1)
        tokens = tokens + torch.cat([stored[:, :1], grid.flatten(2).transpose(1, 2)], 1)
        for layer in vit.layers:
            tokens = layer(tokens)
        expected = vit.layernorm(tokens)[:, 0]
    assert torch.allclose(network(frames), expected, atol=1e-5)
    assert torch.allclose(network(frames[1:]), expected[1:], atol=1e-5)


def test_clip_sees_the_middle_square_without_antialiasing(clip: str) -> None:
    network = ClipFeatures(clip)
    network.load()
    frames = noise(300, 500)
    pixels = F.interpolate(frames.float(), size=(224, 373), mode="bicubic")[..., 74:298]  # round(74.5) is even
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    with torch.no_grad():
        expected = network.clip(pixel_values=standardised(pixels, mean, deviation)).image_embeds
    assert network(frames).shape == (2, 12)
    assert torch.allclose(network(frames), expected, atol=1e-5)


def test_aesthetic_is_the_head_on_features_of_length_one(clip: str, tmp_path: Path) -> None:
    head = save_head(tmp_path / "head.pth")
    features, scores = ClipFeatures(clip), AestheticScore(head, clip)
    features.load()
    scores.load()
    state = torch.load(head)
    expected = F.normalize(features(noise(40, 60)), dim=-1) @ state["weight"][0] + 5.0
    assert torch.allclose(scores(noise(40, 60)), expected, atol=1e-5)
    assert scores.facts()["head"] == identity(head)
    with pytest.raises(ValueError, match=r"embeddings of 768 numbers, .* gives 12"):
        AestheticScore(str(GOLDEN_HEAD), clip).load()
    with pytest.raises(ValueError, match="no such file"):
        AestheticScore(str(tmp_path / "none.pth"), clip).facts()


def test_weights_are_told_apart_and_other_weights_named(dino: str, clip: str, tmp_path: Path) -> None:
    facts = DinoFeatures(dino).facts()
    assert len(facts["weights"]["sha256"]) == 64
    assert facts["weights"]["sha256"] != identity(clip)["sha256"]
    assert facts["differs"] == [f"weights from {dino}, not verified to be facebook/dino-vitb16"]
    config = json.loads((Path(dino) / "config.json").read_text())
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((Path(dino) / name).read_bytes())
    assert identity(str(tmp_path))["sha256"] == facts["weights"]["sha256"], "the place does not matter"
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    assert identity(str(tmp_path))["sha256"] != facts["weights"]["sha256"]
    with pytest.raises(ValueError, match="no such file or folder, and no model of the hub"):
        identity(str(tmp_path / "none"))


def test_files_are_the_published_weights_by_their_hash(clip: str, tmp_path: Path) -> None:
    by_clip = [f"weights from {clip}, not verified to be openai/clip-vit-large-patch14"]
    assert AestheticScore(str(GOLDEN_HEAD), clip).facts()["differs"] == by_clip
    head = save_head(tmp_path / "sa_0_4_vit_l_14_linear.pth")
    difference = f"weights from {head}, not verified to be sa_0_4_vit_l_14_linear.pth"
    assert AestheticScore(head, clip).facts()["differs"] == [*by_clip, difference]
    musiq = tmp_path / "musiq_spaq_ckpt-358bb6af.pth"
    musiq.write_bytes(b"something else under the published name")
    assert "not verified to be pyiqa musiq_spaq" in MusiqScore(str(musiq)).facts()["differs"][0]
    assert weights_differ({"id": "facebook/dino-vits8"}, "facebook/dino-vitb16") == [
        "facebook/dino-vits8 in place of facebook/dino-vitb16"
    ]
    assert weights_differ({"id": "facebook/dino-vitb16", "revision": "1"}, "facebook/dino-vitb16") == []


class _Musiq(nn.Module):
    """Stands for pyiqa's class: the mean of the longest side's number of pixels and of the values."""

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[0] == 1
        return torch.tensor([[max(image.shape[2:]) + float(image.mean())]])


def test_musiq_sees_frames_of_512_pixels_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyiqa", "pyiqa.archs", "pyiqa.archs.musiq_arch"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["pyiqa.archs.musiq_arch"], "MUSIQ", _Musiq, raising=False)
    network = MusiqScore()
    network.load()
    assert network.musiq.settings == {"pretrained": "spaq"}
    grey = torch.full((2, 3, 300, 600), 51, dtype=torch.uint8)
    assert network(grey).tolist() == pytest.approx([512.2, 512.2])
    assert network(grey[..., :400]).tolist() == pytest.approx([400.2, 400.2])
    other = MusiqScore("musiq_spaq_ckpt-358bb6af.pth")
    other.load()
    assert other.musiq.settings == {"pretrained_model_path": "musiq_spaq_ckpt-358bb6af.pth"}


def test_musiq_is_absent_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.vbench.networks.find_spec", lambda name: None)
    assert "pip install pyiqa" in (MusiqScore().absent() or "")
    monkeypatch.setattr("benchmarks.vbench.networks.find_spec", lambda name: object())
    assert MusiqScore().absent() is None
    assert MusiqScore().facts()["differs"] == []


def test_flow_is_published_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = flow_facts(RaftFlow("C_T_V1", "large", num_updates=20))
    assert (published["proxy"], published["differs"]) == (False, [])
    assert published["weights"]["url"].endswith("22a6c225.pth")
    assert "12" in flow_facts(RaftFlow("C_T_V1", "large", num_updates=12))["differs"][0]
    other = flow_facts(RaftFlow(num_updates=20))
    assert other["weights"]["id"] == "torchvision C_T_SKHT_V2"
    assert other["differs"] == ["torchvision C_T_SKHT_V2 in place of torchvision C_T_V1"]
    file = save_raft(tmp_path / "raft.pth")
    assert flow_facts(RaftFlow(file, "small"))["weights"]["sha256"] == identity(file)["sha256"]
    unverified = [f"weights from {file}, not verified to be torchvision C_T_V1"]
    assert flow_facts(RaftFlow(file, "large", num_updates=20))["differs"] == unverified
    monkeypatch.setattr("benchmarks.vbench.motion.RAFT_SHA256", identity(file)["sha256"][:8])
    assert flow_facts(RaftFlow(file, "large", num_updates=20))["differs"] == []
    with pytest.raises(ValueError, match="none of torchvision's weights of RAFT"):
        flow_facts(RaftFlow("nothing.pth"))
    proxy = flow_facts(DisFlow("fast"))
    assert proxy["proxy"]
    assert proxy["differs"] == ["OpenCV DIS fast in place of RAFT"]


AMT = '''
import torch
from torch import nn
from utils.scale import half

class Model(nn.Module):
    """Says the mean of both frames, and notes the size that it was given."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, before, after, time, scale_factor=1.0, eval=False):
        assert time.flatten().tolist() == [0.5] and eval and scale_factor == 1.0
        assert before.shape[2] % 16 == before.shape[3] % 16 == 0
        return {"imgt_pred": half(before + after) * self.gain}
'''


def test_amt_is_run_from_a_clone_and_leaves_no_module_behind(tmp_path: Path) -> None:
    (tmp_path / "networks").mkdir()
    (tmp_path / "utils").mkdir()
    (tmp_path / "networks" / "AMT-S.py").write_text(AMT)
    (tmp_path / "utils" / "scale.py").write_text("half = lambda x: x / 2\n")
    weights = tmp_path / "amt-s.pth"
    torch.save({"state_dict": {"gain": torch.ones(1)}, "epoch": 3}, weights)
    before = {name for name in sys.modules if name.split(".")[0] in ("networks", "utils")}
    network = AmtInterpolation(str(tmp_path), str(weights))
    assert network.facts()["weights"]["sha256"] == identity(str(weights))["sha256"]
    assert network.facts()["differs"] == [f"weights from {weights}, not verified to be amt-s.pth of lalala125/AMT"]
    network.load()
    assert {name for name in sys.modules if name.split(".")[0] in ("networks", "utils")} == before
    first, second = noise(20, 37)
    middle = network(first, second)
    assert middle.dtype == torch.uint8
    assert torch.equal(middle, ((first / 255.0 + second / 255.0) / 2 * 255.0).to(torch.uint8))

    torch.save({"state_dict": {"other": torch.ones(1)}}, weights)
    with pytest.raises(ValueError, match="is no checkpoint of AMT-S"):
        AmtInterpolation(str(tmp_path), str(weights)).load()
    with pytest.raises(ValueError, match=r"no networks/AMT-S\.py"):
        AmtInterpolation(str(tmp_path / "none"), str(weights)).facts()
    with pytest.raises(ValueError, match="give the weights of AMT-S"):
        AmtInterpolation(str(tmp_path), str(tmp_path / "none.pth")).facts()


def test_a_blend_is_a_proxy_and_does_not_wrap() -> None:
    first, second = noise(8, 8)
    assert torch.equal(BlendInterpolation()(first, second), ((first.float() + second.float()) / 2).to(torch.uint8))
    assert BlendInterpolation().facts()["proxy"]


def test_padding_is_in_the_middle() -> None:
    assert centred(480, 832, 8) == (0, 0, 0, 0)
    assert centred(33, 30, 16) == (1, 1, 7, 8)
