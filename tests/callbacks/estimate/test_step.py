"""The cost of a step: on fake tensors the same, to the byte and the operation, as on real ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensor
from torch.utils.flop_counter import FlopCounterMode

from callbacks.estimate.batches import Sizes, batch_of
from callbacks.estimate.fakes import FakeMode, FakeOperations, load_fake
from callbacks.estimate.step import StepCost, StepRun, frozen_copy, step_cost
from callbacks.estimate.tracker import StepTracker, Work
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.preference import PreferenceModule
from lightning_modules.vista_dpo import VistaDPO
from tests.support.paths import ROOT

CHECKPOINTS = ROOT / "datamodules" / "toy_world" / "checkpoints"
SIZES = Sizes(frames=5, height=32, width=32, question=12, answer=6)


def vista(**options: Any) -> VistaDPO:
    """VistaDPO on the toy checkpoint, not loaded."""
    settings = {"lora": LoraSettings(r=4, alpha=8), "num_frames": 2, **options}
    return VistaDPO(VideoLlavaPolicy(str(CHECKPOINTS / "video_llava"), **settings))


def dense(**options: Any) -> DenseDPO:
    """DenseDPO on the toy checkpoint, not loaded."""
    settings = {"lora": FlowLora(r=4, alpha=4), "prompt_length": 16, **options}
    return DenseDPO(WanPolicy(str(CHECKPOINTS / "wan"), **settings))


def cost(module: PreferenceModule, run: StepRun, fake: bool, batch_size: int = 1) -> StepCost:
    """The cost of a step of a module that is not loaded."""
    policy: Any = module.policy
    reference = frozen_copy(policy) if run.reference == "copy" else None
    mode = FakeMode()
    for each in (policy, reference):
        if each is not None and fake:
            load_fake(each, mode)
        elif each is not None:
            each.load()
    if reference is not None:
        reference.requires_grad_(False)
    data = VistaPairs(train="train.index.json", num_frames=2)
    return step_cost(module, batch_of(module, data, SIZES, batch_size), run, reference)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        pytest.param(vista, {}, marks=pytest.mark.slow),
        pytest.param(vista, {"activation_checkpointing": True}, marks=pytest.mark.slow),
        pytest.param(dense, {}, marks=pytest.mark.slow),
        pytest.param(dense, {"activation_checkpointing": True, "dtype": "bfloat16"}, marks=pytest.mark.slow),
    ],
)
def test_fake_tensors_cost_what_real_ones_do(make: Any, options: dict[str, Any]) -> None:
    fake, real = (cost(make(**options), StepRun(), kind) for kind in (True, False))
    assert asdict(fake) == asdict(real)
    assert fake.peak.total > fake.weights + fake.trained + fake.gradients + fake.optimizer
    assert fake.own > 0


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["copy", "cached", "none"])
def test_references_of_other_kinds(reference: Any) -> None:
    options: dict[str, Any] = {"lora": None} if reference == "copy" else {}
    run = StepRun(reference=reference)
    if reference == "none":
        with pytest.raises(ValueError, match="no reference scores"):
            cost(vista(), run, True)
        return
    fake, real = (cost(vista(**options), run, kind) for kind in (True, False))
    assert asdict(fake) == asdict(real)
    phases = {work.phase for work in fake.flops}
    assert ("reference" in phases) == (reference == "copy")
    if reference == "copy":  # the frozen copy is as large as the policy, of which nearly everything trains
        assert fake.weights > fake.trained


@pytest.mark.slow
def test_parts_are_the_sizes_of_the_tensors() -> None:
    module = dense()
    result = cost(module, StepRun(), True)
    trained = sum(weight.numel() * 4 for weight in module.trainable().values())
    frozen = sum(weight.numel() * 4 for weight in module.policy.parameters() if not weight.requires_grad)  # type: ignore[attr-defined]
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in module.policy.buffers())  # type: ignore[attr-defined]
    assert (result.trained, result.gradients, result.weights) == (trained, trained, frozen + buffers)
    # Two moments, and a count of steps for each tensor.
    assert result.optimizer == 2 * trained + 4 * len(module.trainable())


@pytest.mark.slow
def test_gradients_of_earlier_micro_batches_are_in_the_peak() -> None:
    # One of the largest block's activations and all gradients are not there together unless there are earlier ones.
    several = cost(vista(), StepRun(accumulates=True), True)
    single = cost(vista(), StepRun(accumulates=False), True)
    assert 0 < several.peak.total - single.peak.total <= several.gradients
    assert several.peaks["reference"] - single.peaks["reference"] == several.gradients


@pytest.mark.slow
def test_checkpointing_trades_memory_for_operations() -> None:
    plain = cost(dense(), StepRun(), True)
    checkpointed = cost(dense(activation_checkpointing=True), StepRun(), True)
    assert checkpointed.peaks["backward"] < plain.peaks["backward"]
    again = {work: count for work, count in checkpointed.flops.items() if work.phase == "recomputation"}
    assert again
    others = {work: count for work, count in checkpointed.flops.items() if work.phase != "recomputation"}
    assert others == dict(plain.flops)


def test_the_tracker_knows_what_is_alive() -> None:
    tracker = StepTracker()
    with tracker, tracker.during("forward"):
        first = torch.zeros(1000)
        second = first + 1
        view = second[10:]
        del second, first
        assert tracker.now == 4000  # the view keeps its storage
        third = torch.cat([view, view])
        del view
        assert tracker.now == 4 * 1980
    assert tracker.peak.total == 4000 + 4 * 1980
    assert (tracker.peak.phase, tracker.peak.place) == ("forward", "cat in the method")
    del third


def test_the_tracker_sees_a_storage_that_is_emptied_and_filled() -> None:
    tracker = StepTracker()
    with tracker:
        tensor = torch.zeros(1000)
        tensor.untyped_storage().resize_(0)
        assert tracker.now == 0
        tensor.untyped_storage().resize_(4000)
        assert tracker.now == 4000
        del tensor
        assert tracker.now == 0
    assert "resize_" not in vars(torch.UntypedStorage)


def test_a_fake_tensor_is_indexed_by_a_real_mask() -> None:
    mode, mask = FakeMode(), torch.tensor([True, False, True])
    with mode:
        values, changes = torch.zeros(3, 5), torch.zeros(2, 5)
    with pytest.raises(DynamicOutputShapeException):
        values[mask]
    with FakeOperations(mode):
        assert values[mask, :].shape == (2, 5)
        values[mask] = changes
    assert values.shape == (3, 5)


def test_a_large_tensor_made_of_small_real_ones_is_fake_and_counts() -> None:
    tokens, pixels, tracker = torch.ones(12_000, dtype=torch.bool), torch.zeros(1 << 20), StepTracker()
    tokens[7] = False
    with FakeOperations(FakeMode()), tracker:
        rows = tokens.repeat(12_000, 1)
        pairs = rows & rows.T
        broadcast = tokens[:, None] & tokens
        assert {type(mask) for mask in (rows, pairs, broadcast)} == {FakeTensor}
        assert tracker.now == 3 * 12_000**2 + 12_000, "and that of tokens"
        # What is small, and what is as large as what it is made of, keeps its values.
        small, same = tokens.repeat(2, 1), pixels + 1
        assert small.sum() == 2 * 11_999
        assert torch.equal(same, torch.ones(1 << 20))
        assert tokens.nonzero().shape == (11_999, 1)


def test_operations_are_those_of_the_formulas_by_phase_and_type() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4).to(torch.bfloat16))
    tracker = StepTracker({model[0]: "first", model[1]: "second"})
    with tracker:
        with tracker.during("forward"):
            out = model[1](model[0](torch.zeros(3, 8)).bfloat16())
        with tracker.during("backward"):
            out.float().sum().backward()
    assert tracker.flops[Work("forward", "matmul", "float32")] == 2 * 3 * 8 * 16
    assert tracker.flops[Work("forward", "matmul", "bfloat16")] == 2 * 3 * 16 * 4
    assert tracker.flops[Work("backward", "matmul", "bfloat16")] == 2 * 2 * 3 * 16 * 4
    # The input needs no gradient: only the weight's.
    assert tracker.flops[Work("backward", "matmul", "float32")] == 2 * 3 * 8 * 16


@pytest.mark.slow
def test_operations_agree_with_the_counter_of_torch() -> None:
    module = dense()
    module.policy.load()
    batch = batch_of(module, None, SIZES, 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.scores(batch)
    result = step_cost(module, batch, StepRun())
    forward = sum(count for work, count in result.flops.items() if work.phase == "forward")
    assert forward == counter.get_total_flops()


def test_a_step_has_the_frames_of_each_view_and_the_references_own() -> None:
    data = VistaPairs(
        train="train.index.json", num_frames=4, num_clip_frames=2, num_object_frames=1, reference_frames=3
    )
    module = vista(num_frames=None)
    module.weights["video"] = 0.0
    batch = batch_of(module, data, SIZES, 1)
    assert {view.name: len(view.frames) for view in batch.views} == {
        "original": 4, "clip": 2, "clip_negative": 2, "object": 1, "object_negative": 1,
    }  # fmt: skip
    assert [len(view.frames) for view in batch.for_reference().views] == [3, 2, 2, 1, 1]
