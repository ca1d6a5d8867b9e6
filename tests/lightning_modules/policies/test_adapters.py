from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import VideoLlavaForConditionalGeneration

from datamodules.vista.samples import View
from lightning_modules.policies.adapters import (
    LoraSettings,
    existing_config,
    has_adapter,
    reference_mode,
    reference_parameters,
    snapshot_reference,
)
from lightning_modules.policies.prefixes import Encoded
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support.tiny_video_llava import NUM_FRAMES

LORA = LoraSettings(r=4, alpha=12)
Make = Callable[..., VideoLlavaPolicy]


@pytest.fixture(scope="module")
def make(checkpoint: Path) -> Make:
    def build(**settings: Any) -> VideoLlavaPolicy:
        policy = VideoLlavaPolicy(**{"path": str(checkpoint), "num_frames": NUM_FRAMES} | settings)
        policy.load()
        return policy

    return build


@pytest.fixture(scope="module")
def encoded(make: Make) -> Encoded:
    frames = torch.randint(0, 256, (NUM_FRAMES, 3, 16, 16), dtype=torch.uint8)
    return make().encode([View(0, "original", frames, "what moves?", {"chosen": "a ball", "rejected": "a cube"})])


@pytest.fixture(scope="module")
def supervised(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained adapter, with a trained projector, as a PEFT folder."""
    folder = tmp_path_factory.mktemp("supervised")
    policy = make(lora=LORA, train_projector=True)
    train(policy)
    policy.export(folder)
    return folder


def train(policy: nn.Module) -> None:
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn_like(parameter)


def log_probs(policy: VideoLlavaPolicy, encoded: Encoded) -> Tensor:
    with torch.no_grad():
        return policy(encoded).log_probs


def reference_log_probs(policy: VideoLlavaPolicy, encoded: Encoded) -> Tensor:
    with policy.reference_mode():
        return log_probs(policy, encoded)


def flags(policy: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in policy.named_parameters()}


# The reference switch


@pytest.mark.parametrize("reference_adapter", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_fresh_adapter_is_the_reference_bit_for_bit(
    make: Make, encoded: Encoded, precision: torch.dtype, reference_adapter: bool
) -> None:
    policy = make(lora=LORA, train_projector=True, reference_adapter=reference_adapter)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        assert torch.equal(reference_log_probs(policy, encoded), log_probs(policy, encoded))


@pytest.mark.parametrize("parts", [{}, {"train_projector": True}, {"train_tower": True}])
def test_the_reference_of_a_trained_adapter_is_the_bare_model(
    make: Make, encoded: Encoded, parts: dict[str, bool]
) -> None:
    policy, bare = make(lora=LORA, **parts), make()
    if "train_tower" in parts:
        frames = torch.randint(0, 256, (NUM_FRAMES, 3, 16, 16), dtype=torch.uint8)
        view = View(0, "original", frames, "what moves?", {"chosen": "a ball"})
        encoded, plain = policy.encode([view]), bare.encode([view])
    else:
        plain = encoded
    train(policy)
    assert torch.equal(reference_log_probs(policy, encoded), log_probs(bare, plain))
    assert not torch.equal(log_probs(policy, encoded), log_probs(bare, plain))


@pytest.mark.parametrize("settings", [{"lora": LORA, "train_projector": True}, {"adapter": "supervised"}])
def test_the_switch_leaves_requires_grad_alone_and_comes_back_after_an_error(
    make: Make, encoded: Encoded, supervised: Path, settings: dict[str, Any]
) -> None:
    policy = make(**settings | ({"adapter": str(supervised)} if "adapter" in settings else {}))
    frozen = next(parameter for name, parameter in policy.named_parameters() if "lora_A.default" in name)
    frozen.requires_grad_(False)
    train(policy)
    before, expected = flags(policy), log_probs(policy, encoded)

    def fail_as_reference() -> None:
        with policy.reference_mode():
            assert flags(policy) == before
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail_as_reference()
    assert flags(policy) == before
    assert torch.equal(log_probs(policy, encoded), expected)


def test_the_switch_survives_a_broken_adapter(make: Make, encoded: Encoded) -> None:
    policy, bare = make(lora=LORA), make()
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.fill_(torch.inf)
    assert torch.equal(reference_log_probs(policy, encoded), log_probs(bare, encoded))


def test_peft_still_reads_the_attributes_that_the_switch_sets(make: Make) -> None:
    policy = make(lora=LORA, train_projector=True)
    for kind in (BaseTunerLayer, AuxiliaryTrainingWrapper):
        layers = [module for module in policy.modules() if isinstance(module, kind)]
        assert layers
        for layer in layers:
            assert layer._disable_adapters is layer.disable_adapters is False
            assert layer._active_adapter is layer.active_adapter
            with reference_mode(policy):
                assert layer.disable_adapters
            layer._active_adapter = ["other"]
            assert layer.active_adapters == ["other"]


def test_without_adapters_the_switch_changes_nothing(make: Make, encoded: Encoded) -> None:
    policy = make()
    assert torch.equal(reference_log_probs(policy, encoded), log_probs(policy, encoded))
    assert not has_adapter(policy)


# Starting from an adapter


def test_a_supervised_adapter_stays_in_the_reference(make: Make, encoded: Encoded, supervised: Path) -> None:
    policy = make(adapter=str(supervised))
    start = log_probs(policy, encoded)
    assert torch.equal(reference_log_probs(policy, encoded), start)
    assert not torch.equal(start, log_probs(make(), encoded))
    train(policy)
    assert torch.equal(reference_log_probs(policy, encoded), start)
    assert not torch.equal(log_probs(policy, encoded), start)
    trained = [name for name, on in flags(policy).items() if on]
    assert trained
    assert all(".default." in name for name in trained)


def test_adapters_are_float32_on_a_bfloat16_model(make: Make, supervised: Path) -> None:
    for settings in ({"lora": LORA, "train_projector": True}, {"adapter": str(supervised)}):
        policy = make(dtype="bfloat16", **settings)
        kinds = {
            ".default." in name or ".reference." in name: parameter.dtype
            for name, parameter in policy.named_parameters()
        }
        assert kinds == {True: torch.float32, False: torch.bfloat16}


def test_an_adapter_that_does_not_fit_is_refused(
    make: Make, supervised: Path, tmp_path: Path, checkpoint: Path
) -> None:
    with pytest.raises(ValueError, match="no PEFT adapter at"):
        make(adapter=str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="has r = 4 and alpha = 12, `lora` says 8"):
        make(adapter=str(supervised), lora=LoraSettings(r=8, alpha=12))
    assert has_adapter(make(adapter=str(supervised), lora=LORA))
    with pytest.raises(ValueError, match="holds no trained video_tower"):
        make(adapter=str(supervised), train_tower=True)
    config = json.loads((supervised / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    weights = (supervised / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match="does not fit this checkpoint"):
        make(adapter=str(tmp_path))
    (tmp_path / "adapter_config.json").write_text(
        json.dumps(config | {"target_modules": r".*language_model.*\.q_proj"})
    )
    with pytest.raises(ValueError, match="no counterpart"):
        make(adapter=str(tmp_path))


# A reference that follows


def test_the_targets_of_an_existing_adapter_are_in_an_order_that_stays() -> None:
    """peft has them as a set, which every process writes in another order."""
    names = [f"layer_{number}" for number in range(40)]
    read = LoraConfig(target_modules=names[::-1])
    assert isinstance(read.target_modules, set)
    assert existing_config(read, None, "folder").target_modules == sorted(names)


def test_a_hard_refresh_makes_the_reference_the_policy(make: Make, encoded: Encoded) -> None:
    policy = make(lora=LORA, train_projector=True, reference_adapter=True)
    train(policy)
    before = flags(policy)
    snapshot_reference(policy)
    now = log_probs(policy, encoded)
    assert torch.equal(reference_log_probs(policy, encoded), now)
    train(policy)
    assert torch.equal(reference_log_probs(policy, encoded), now)
    assert flags(policy) == before


def test_a_moving_average_keeps_its_share(make: Make) -> None:
    policy = make(lora=LORA, train_projector=True, reference_adapter=True)
    old = {name: parameter.clone() for name, parameter in reference_parameters(policy)}
    train(policy)
    snapshot_reference(policy, decay=0.75)
    parameters = dict(policy.named_parameters())
    assert len(old) == sum(parameter.requires_grad for parameter in policy.parameters())
    for name, reference in reference_parameters(policy):
        averaged = 0.75 * old[name] + 0.25 * parameters[name.replace(".reference.", ".default.")]
        torch.testing.assert_close(reference.data, averaged.data)


def test_a_refresh_without_a_reference_adapter_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="reference_adapter: true"):
        snapshot_reference(make(lora=LORA))


# Exports


@pytest.mark.parametrize("parts", [{}, {"train_projector": True}])
@pytest.mark.parametrize("given", [False, True])
def test_an_exported_adapter_reloads_equal_in_peft_and_here(
    make: Make, encoded: Encoded, checkpoint: Path, tmp_path: Path, parts: dict[str, bool], given: bool
) -> None:
    policy = make(lora=LORA, reference_adapter=True, **parts)
    train(policy)
    trained = {name: tensor for name, tensor in policy.state_dict().items() if ".default." in name}
    policy.export(tmp_path, trained if given else None)
    assert {path.name for path in tmp_path.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    expected = log_probs(policy, encoded)
    assert torch.equal(log_probs(make(adapter=str(tmp_path)), encoded), expected)

    plain = make()
    model = VideoLlavaForConditionalGeneration.from_pretrained(checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        plain.model = PeftModel.from_pretrained(model, str(tmp_path)).get_base_model()
    torch.testing.assert_close(log_probs(plain, encoded), expected)


def test_an_exported_tower_reloads_equal(make: Make, tmp_path: Path) -> None:
    policy = make(lora=LORA, train_tower=True)
    train(policy)
    policy.export(tmp_path)
    frames = torch.randint(0, 256, (NUM_FRAMES, 3, 16, 16), dtype=torch.uint8)
    view = View(0, "original", frames, "what moves?", {"chosen": "a ball"})
    again = make(adapter=str(tmp_path), train_tower=True)
    assert torch.equal(log_probs(again, again.encode([view])), log_probs(policy, policy.encode([view])))
