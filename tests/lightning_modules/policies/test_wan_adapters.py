"""Wan's adapters: what trains, what the reference is, and what leaves a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lightning_modules.policies.adapters import LoraSettings, snapshot_reference
from lightning_modules.policies.euler import guided_sigmas
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.wan import WanPolicy
from tests.support.tiny_wan import write_tiny_wan
from tests.support.wan_cases import (
    LORA,
    PROMPT_LENGTH,
    PROMPTS,
    build_policy,
    noisy_batch,
    read_pipeline,
    untrained,
    velocity_of,
    with_schedule,
    write_two_experts,
)

FILE = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def trained(path: Path) -> WanPolicy:
    return build_policy(path, lora=LORA)


@pytest.fixture(scope="module")
def folder(trained: WanPolicy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "last"
    trained.export(folder)
    return folder


def flags(policy: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in policy.named_parameters()}


def gradients(policy: WanPolicy) -> dict[str, Tensor | None]:
    policy.zero_grad()
    policy(**noisy_batch()).square().mean().backward()
    return {name: parameter.grad for name, parameter in policy.named_parameters() if parameter.requires_grad}


# What trains


def test_a_fresh_adapter_is_the_reference_bit_for_bit(path: Path) -> None:
    base = velocity_of(build_policy(path))
    for dtype in ("float32", "bfloat16"):
        fresh = build_policy(path, nudged=False, lora=LORA, dtype=dtype)
        assert torch.equal(velocity_of(fresh), velocity_of(fresh, reference=True))
        if dtype == "float32":
            assert torch.equal(velocity_of(fresh), base)


@pytest.mark.parametrize("kept", [False, True])
def test_the_reference_has_no_adapter_or_the_frozen_one(path: Path, kept: bool) -> None:
    policy = build_policy(path, lora=LORA, reference_adapter=kept)
    before = flags(policy)
    base = velocity_of(build_policy(path))
    assert torch.equal(velocity_of(policy, reference=True), base)
    assert not torch.allclose(velocity_of(policy), base, atol=1e-2)
    assert flags(policy) == before
    assert all(on == ("lora_" in name and ".default." in name) for name, on in before.items())
    if kept:
        snapshot_reference(policy)
        assert torch.equal(velocity_of(policy, reference=True), velocity_of(policy))


def test_every_adapter_gets_a_gradient_after_a_reference_pass(trained: WanPolicy) -> None:
    velocity_of(trained, reference=True)
    plain = gradients(trained)
    assert len(plain) == 2 * 2 * 10, "A and B of ten linears in each of two blocks"
    assert untrained(trained) == []


def test_recomputed_activations_give_the_same_gradients(path: Path, trained: WanPolicy) -> None:
    again = build_policy(path, lora=LORA, activation_checkpointing=True)
    again.load_state_dict(trained.state_dict())
    velocity_of(again, reference=True)
    torch.testing.assert_close(gradients(again), gradients(trained))


def test_adapters_that_are_off_at_forward_are_found_out(trained: WanPolicy) -> None:
    trained.zero_grad()
    with trained.reference_mode():
        policy_pass = trained(**noisy_batch() | {"noisy": noisy_batch()["noisy"].requires_grad_()})
    policy_pass.sum().backward()
    assert len(untrained(trained)) == 40


def test_a_fully_trained_transformer_gets_every_gradient(path: Path) -> None:
    policy = build_policy(path)
    assert all(flags(policy).values())
    assert len(gradients(policy)) == len(flags(policy))
    assert untrained(policy) == []


# Exports


def test_the_pipeline_with_the_exported_adapter_makes_our_video(
    path: Path, trained: WanPolicy, folder: Path, tmp_path: Path
) -> None:
    assert [path.name for path in folder.iterdir()] == [FILE]
    noise = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1))

    def video(adapter: Path | None) -> Tensor:
        pipeline = with_schedule(read_pipeline(path), [1 - step / 4 for step in range(4)], 3.0)
        if adapter is not None:
            pipeline.load_lora_weights(str(adapter))
        video: Tensor = pipeline(
            PROMPTS[:1], height=32, width=32, num_frames=9, num_inference_steps=4, guidance_scale=5.0,
            latents=noise, output_type="pt", max_sequence_length=PROMPT_LENGTH,
        ).frames  # fmt: skip
        return video

    ours = trained._codec.decode(
        trained.denoise(noise, guided_sigmas(4, 1.0, 3.0), trained.encode_prompt(PROMPTS[:1]), (), 5.0)
    )
    torch.testing.assert_close(ours, video(folder), rtol=0, atol=1e-4)
    assert (ours - video(None)).abs().max() > 0.01
    bare = tmp_path / "bare"
    bare.mkdir()
    save_file(load_file(folder / FILE), bare / FILE)
    assert (ours - video(bare)).abs().max() > 0.01, "without its settings alpha is lost"


def test_an_exported_adapter_is_read_back_and_stays_in_the_reference(
    path: Path, trained: WanPolicy, folder: Path, tmp_path: Path
) -> None:
    again = build_policy(path, nudged=False, adapter=str(folder))
    expected = velocity_of(trained)
    assert torch.equal(velocity_of(again), expected)
    with torch.no_grad():
        for parameter in again.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.5)
    assert torch.equal(velocity_of(again, reference=True), expected)
    assert not torch.allclose(velocity_of(again), expected, atol=1e-3)
    again.export(tmp_path / "second")
    third = build_policy(path, nudged=False, adapter=str(tmp_path / "second"))
    assert torch.equal(velocity_of(third), velocity_of(again)), "the trained one leaves, not the frozen copy"
    assert len(load_file(tmp_path / "second" / FILE)) == 40


def test_an_adapter_that_does_not_say_its_alpha_has_its_rank(path: Path, folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    weights = load_file(folder / FILE)
    save_file(weights, bare / FILE)
    theirs = read_pipeline(path)
    theirs.load_lora_weights(str(bare))
    policy = build_policy(path, nudged=False, adapter=str(bare))
    plain = build_policy(path)
    plain.model = theirs.transformer
    torch.testing.assert_close(velocity_of(policy), velocity_of(plain))
    name = next(iter(weights))
    save_file(weights | {name: torch.cat([weights[name]] * 2, 0 if "lora_A" in name else 1)}, bare / FILE)
    with pytest.raises(ValueError, match=r"ranks \[4, 8\]"):
        WanPolicy(str(path), adapter=str(bare))


def test_an_adapter_of_the_second_expert_goes_there(path: Path, tmp_path: Path) -> None:
    both = write_two_experts(path, write_tiny_wan(tmp_path / "other", seed=1), tmp_path / "both")
    policy = build_policy(both, lora=LORA, transformer="transformer_2")
    policy.export(tmp_path / "adapter")
    pipeline = read_pipeline(both)
    pipeline.load_lora_weights(str(tmp_path / "adapter"), load_into_transformer_2=True)
    plain = build_policy(path)
    plain.model = pipeline.transformer_2
    torch.testing.assert_close(velocity_of(plain), velocity_of(policy))


def test_a_full_export_is_a_transformer_for_from_pretrained(path: Path, tmp_path: Path) -> None:
    from diffusers import WanTransformer3DModel

    policy = build_policy(path)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.1)
    policy.export(tmp_path / "now")
    policy.export(tmp_path / "given", {name: tensor.clone() for name, tensor in policy.state_dict().items()})
    expected = velocity_of(policy)
    for name in ("now", "given"):
        assert torch.equal(velocity_of(build_policy(path, weights=str(tmp_path / name))), expected)
        plain = build_policy(path)
        plain.model = WanTransformer3DModel.from_pretrained(tmp_path / name)
        assert torch.equal(velocity_of(plain), expected)
    assert not torch.allclose(velocity_of(build_policy(path)), expected, atol=1e-2)


# Settings


def test_the_default_adapter_has_the_papers_rank_on_every_linear(path: Path) -> None:
    policy = WanPolicy(str(path), lora=FlowLora())
    policy.load(meta=True)
    ranks = {name: len(tensor) for name, tensor in policy.named_parameters() if "lora_A" in name}
    assert set(ranks.values()) == {128}
    linears = {name for name, layer in policy.base.blocks.named_modules() if type(layer) is nn.Linear}
    assert {name.split("blocks.")[1].split(".lora_A")[0] for name in ranks} == {
        name.removesuffix(".base_layer") for name in linears if name.endswith(".base_layer")
    }
    assert len(ranks) == 20


def test_targets_may_be_narrower_and_settings_a_familys_own(path: Path) -> None:
    policy = build_policy(path, lora=LoraSettings(r=2, alpha=2, targets=r".*attn1\.to_[qv]"))
    assert sum(flags(policy).values()) == 2 * 2 * 2
    assert sum(flags(build_policy(path, lora=LoraSettings(r=2))).values()) == 40


def test_adapters_that_do_not_fit_are_refused(
    path: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NetworkError(Exception):
        """What the hub's client raises where it has no network is of no class that is known here."""

    def unreachable(*_: Any, **__: Any) -> None:
        raise NetworkError("Name or service not known")

    def refused(adapter: Path, why: str, **settings: Any) -> None:
        with pytest.raises(ValueError, match=why):
            WanPolicy(str(path), adapter=str(adapter), **settings).load()

    refused(tmp_path / "nowhere", "no adapter at")
    with monkeypatch.context() as patched:
        patched.setattr(WanPipeline, "lora_state_dict", unreachable)
        refused(Path("nope"), r"no adapter at 'nope' \(Name or service not known\); give a folder")
    refused(folder, r"has r = 4 and alpha = 12, `lora` says 8 and 8", lora=FlowLora(8, 8))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    weights = load_file(folder / FILE)
    save_file({f"base_model.model.{name}": tensor for name, tensor in weights.items()}, foreign / FILE)
    refused(foreign, "holds no weights for a Wan transformer")
    shutil.copytree(folder, tmp_path / "wide")
    wide = {name: torch.cat([tensor, tensor], 1) if "lora_A" in name else tensor for name, tensor in weights.items()}
    save_file(wide, tmp_path / "wide" / FILE)
    refused(tmp_path / "wide", "does not fit this checkpoint")
