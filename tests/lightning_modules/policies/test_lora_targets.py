"""Where LoRA adapters go: PEFT's forms of targets, kept to the part of a model that adapters can train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import VideoLlavaForConditionalGeneration

from lightning_modules.policies import lora_targets as module
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support import wan_cases
from tests.support.command_runs import fit, steps, write_uneven_shards
from tests.support.paths import ROOT
from tests.support.tiny_video_llava import NUM_FRAMES, save_tiny_video_llava
from tests.support.tiny_wan import write_tiny_wan
from tests.support.video_llava_cases import build_policy, unequal_views

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Targets = list[str] | str | None


def policy_with(checkpoint: Path, targets: Targets, **settings: Any) -> VideoLlavaPolicy:
    some_blocks = settings.pop("some_blocks", False)
    lora = LoraSettings(r=2, alpha=4, targets=targets, some_blocks=some_blocks)
    return build_policy(checkpoint, lora=lora, **settings)


def adapted(policy: torch.nn.Module) -> set[str]:
    """The modules with an adapter that trains."""
    trained = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    return {name.split(".lora_A")[0].removeprefix("model.base_model.model.") for name in trained if ".lora_A" in name}


def in_decoder(*linears: str, blocks: tuple[int, ...] = (0, 1)) -> set[str]:
    parts = {name: "mlp" if name in LINEARS[4:] else "self_attn" for name in linears}
    return {f"model.language_model.layers.{block}.{part}.{name}" for block in blocks for name, part in parts.items()}


@pytest.mark.parametrize(
    ("targets", "linears"),
    [
        ("all-linear", LINEARS),
        ("q_proj", ("q_proj",)),
        ("self_attn.v_proj", ("v_proj",)),
        (["q_proj", "down_proj"], ("q_proj", "down_proj")),
        (r".*\.(k|o)_proj", ("k_proj", "o_proj")),
        (None, LINEARS),
    ],
)
def test_every_form_of_peft_goes_to_the_language_decoder_only_and_gets_gradients(
    checkpoint: Path, targets: Targets, linears: tuple[str, ...]
) -> None:
    policy = policy_with(checkpoint, targets)
    assert adapted(policy) == in_decoder(*linears)
    assert not [name for name, _ in policy.named_parameters() if "tower" in name and "lora_" in name]
    policy(policy.encode(unequal_views())).log_probs.sum().backward()
    assert not [
        name for name, parameter in policy.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]


def test_peft_itself_would_reach_the_towers(checkpoint: Path) -> None:
    """What the rule above is for; without it the list of two names trains nothing in two towers."""
    model = VideoLlavaForConditionalGeneration.from_pretrained(checkpoint)
    plain = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert [name for name, parameter in plain.named_parameters() if "video_tower" in name and parameter.requires_grad]


def test_what_gets_no_adapter_is_said_with_its_part(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remarks: list[str] = []
    monkeypatch.setattr(module, "rank_zero_info", remarks.append)
    module._say.cache_clear()
    policy_with(checkpoint, "q_proj")
    policy_with(checkpoint, "q_proj")
    (line,) = remarks
    assert "6 of the modules so named are in model.video_tower and model.image_tower" in line
    assert "2 others get one, the first is model.language_model.layers.0.self_attn.q_proj" in line
    policy_with(checkpoint, "gate_proj")
    policy_with(checkpoint, "all-linear")
    assert len(remarks) == 1


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("fc1", r"'fc1' reaches only what no adapter can train.*model\.image_tower\.\S*fc1"),
        (["q_proj", "out_proj"], r"'out_proj' reaches only what no adapter can train"),
        (r".*video_tower.*\.q_proj", r"name linears outside model\.video_tower and model\.image_tower"),
        ("q_porj", r"'q_porj' names no module; the linears of the blocks are self_attn\.q_proj, .*, mlp\.down_proj;"),
        (["q_proj", r".*v_proj"], r"names no module"),
        (r".*(q_proj", r"neither a name nor a regular expression"),
        ([], r"lora\.targets is empty"),
        (r".*layers\.1\.self_attn\.q_proj|lm_head", r"1 of 2 blocks and misses model\.language_model\.layers\.0;"),
    ],
)
def test_targets_that_train_nothing_or_leave_blocks_out_are_refused(
    checkpoint: Path, targets: Targets, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        policy_with(checkpoint, targets)


def test_blocks_may_be_left_out_when_that_is_intended(checkpoint: Path) -> None:
    policy = policy_with(checkpoint, r".*language_model\.layers\.1\..*q_proj", some_blocks=True)
    assert adapted(policy) == in_decoder("q_proj", blocks=(1,))


def test_a_projector_takes_adapters_unless_it_trains_as_a_whole(checkpoint: Path) -> None:
    targets = ["q_proj", "linear_1"]
    policy = policy_with(checkpoint, targets)
    assert adapted(policy) == {*in_decoder("q_proj"), "model.multi_modal_projector.linear_1"}
    policy(policy.encode(unequal_views())).log_probs.sum().backward()
    assert not [
        name for name, parameter in policy.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    with pytest.raises(ValueError, match="'linear_1' reaches only"):
        policy_with(checkpoint, targets, train_projector=True)


def test_the_export_names_the_decoders_modules_and_reloads_equal(checkpoint: Path, tmp_path: Path) -> None:
    policy = policy_with(checkpoint, ["q_proj", "up_proj"])
    policy.export(tmp_path)
    again = VideoLlavaPolicy(str(checkpoint), adapter=str(tmp_path), num_frames=NUM_FRAMES)
    again.load()
    assert adapted(again) == in_decoder("q_proj", "up_proj")
    encoded = policy.encode(unequal_views())
    assert torch.equal(again(encoded).log_probs, policy(encoded).log_probs)


def test_an_adapter_from_elsewhere_that_reaches_a_tower_keeps_it_there_without_training_it(
    checkpoint: Path, tmp_path: Path
) -> None:
    model = VideoLlavaForConditionalGeneration.from_pretrained(checkpoint)
    plain = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    plain.save_pretrained(str(tmp_path / "elsewhere"))

    def load(folder: Path) -> VideoLlavaPolicy:
        policy = VideoLlavaPolicy(str(checkpoint), adapter=str(folder), num_frames=NUM_FRAMES)
        policy.load()
        return policy

    policy, bare = load(tmp_path / "elsewhere"), build_policy(checkpoint)
    assert adapted(policy) == in_decoder("q_proj")
    assert not torch.equal(policy.encode(unequal_views()).vision[0], bare.encode(unequal_views()).vision[0])
    policy.export(tmp_path / "ours")
    assert torch.equal(
        load(tmp_path / "ours").encode(unequal_views()).vision[0], policy.encode(unequal_views()).vision[0]
    )


# A flow


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.mark.parametrize(
    ("targets", "check"),
    [
        ("all-linear", lambda names: len(names) > 20 and "proj_out" not in names),
        ("to_q", lambda names: names == {f"blocks.{block}.attn{n}.to_q" for block in (0, 1) for n in (1, 2)}),
        (["attn1.to_q", "ffn.net.2"], lambda names: len(names) == 4),
    ],
)
def test_a_flow_takes_the_same_forms_and_every_adapter_trains(
    wan: Path, tmp_path: Path, targets: Targets, check: Callable[[set[str]], bool]
) -> None:
    policy = wan_cases.build_policy(wan, lora=FlowLora(r=2, alpha=4, targets=targets))
    names = adapted(policy)
    assert check(names), sorted(names)
    policy(**wan_cases.noisy_batch()).square().mean().backward()
    assert wan_cases.untrained(policy) == []
    policy.export(tmp_path)
    again = wan_cases.build_policy(wan, nudged=False, adapter=str(tmp_path))
    assert torch.equal(wan_cases.velocity_of(again), wan_cases.velocity_of(policy))
    pipeline = wan_cases.read_pipeline(wan)
    pipeline.load_lora_weights(str(tmp_path))
    bare = wan_cases.build_policy(wan)
    bare.model = pipeline.transformer
    torch.testing.assert_close(wan_cases.velocity_of(bare), wan_cases.velocity_of(policy))


def test_a_flows_targets_must_reach_every_block_too(wan: Path) -> None:
    with pytest.raises(ValueError, match=r"1 of 2 blocks and misses blocks\.1;"):
        wan_cases.build_policy(wan, lora=FlowLora(r=2, alpha=4, targets=r"blocks\.0\..*to_q"))
    with pytest.raises(ValueError, match=r"'q_proj' names no module; the linears of the blocks are attn1\.to_q, "):
        wan_cases.build_policy(wan, lora=FlowLora(r=2, alpha=4, targets="q_proj"))


@pytest.mark.slow
def test_names_that_also_reach_the_frozen_tower_train_on_two_processes(tmp_path: Path) -> None:
    """Adapters in the tower had no gradient, for which DDP waits: it stopped at the second step."""
    save_tiny_video_llava(tmp_path / "tiny")
    write_uneven_shards(tmp_path / "train", 12)
    lora = "--model.policy.lora={r: 4, alpha: 8, targets: [q_proj, k_proj]}"
    ddp = [f"{ROOT}/configs/strategy/ddp.yaml", "--trainer.devices=2"]
    losses = []
    for name, batch_size, more in (("one", 4, []), ("two", 2, ddp)):
        where = (f"--trainer.default_root_dir={name}", f"--data.batch_size={batch_size}", "--trainer.max_steps=3")
        done = fit(tmp_path, *more, *where, lora, probe=f"{name}.jsonl")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "where no adapter can train, and get none" in done.stderr
        tensors = load_file(tmp_path / name / "exports/last/adapter_model.safetensors")
        assert {key.split(".lora_")[0].rpartition(".")[2] for key in tensors} == {"q_proj", "k_proj"}
        assert not [key for key in tensors if "tower" in key]
        losses.append([step["loss"] for step in steps(tmp_path / f"{name}.jsonl")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[0][2] != pytest.approx(losses[0][0], abs=1e-3)
