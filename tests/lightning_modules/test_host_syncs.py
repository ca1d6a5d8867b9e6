"""Where the host waits for its GPU within a step: at the check that the loss is finite, and nowhere else of our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.masking_utils
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from callbacks.estimate.batches import batch_of
from callbacks.estimate.fakes import FakeMode, load_fake
from callbacks.metrics.flow import FlowMetrics
from callbacks.metrics.preference import PreferenceMetrics
from datamodules.vista.batches import VistaBatch
from datamodules.vista.shared_frames import share_frames
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.logged import as_logged
from lightning_modules.policies.prefixes import PADDING
from lightning_modules.preference import PreferenceModule
from lightning_modules.supervised_flow import SupervisedFlow
from lightning_modules.vista_dpo import VistaDPO
from lightning_modules.weighted_vista import WeightedVistaDPO
from tests.callbacks.estimate.test_step import SIZES, dense, vista
from tests.support.family_cases import FAMILIES, LORA, checkpoint, family_views, loaded, make_policy
from tests.support.host_syncs import HostSyncs
from tests.support.slow_params import slow_but
from tests.support.tiny_rows_families import ROWS_BUILDERS

FINITE = "_local_scalar_dense preference.py:_require_finite"


def rows() -> VistaDPO:
    return vista(layout="rows")


def weighted() -> VistaDPO:
    module = WeightedVistaDPO(policy=vista().policy)
    module._motion = {"1": 2.0}
    return module


def whole() -> DenseDPO:
    return DenseDPO(dense().policy, granularity="whole", supervised_weight=0.1)


def per_video() -> DenseDPO:
    return DenseDPO(dense().policy, form="per_video", supervised_weight=0.1)


def supervised() -> SupervisedFlow:
    return SupervisedFlow(dense().policy)


@pytest.mark.slow
@pytest.mark.parametrize("make", [vista, rows, weighted, dense, whole, per_video, supervised])
def test_forward_and_terms_wait_for_nothing_but_the_finite_loss(
    make: Callable[[], PreferenceModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It takes fake tensors for a trace, in which it would not ask what it asks in a step.
    monkeypatch.setattr(transformers.masking_utils, "is_tracing", lambda *tensors: False)
    module, mode = make(), FakeMode()
    policy: Any = module.policy
    load_fake(policy, mode, "cuda")
    batch: Any = batch_of(module, VistaPairs(train="train.index.json", num_frames=2), SIZES, 2)
    with HostSyncs(mode) as counted:
        if isinstance(module, VistaDPO):
            # From the CPU: fake frames cannot be compared with each other.
            module.encoded(batch)
            assert counted.syncs == []
        batch = move_data_to_device(batch, torch.device("cuda"))
        counted.syncs.clear()
        if not isinstance(module, SupervisedFlow):
            with torch.no_grad(), policy.reference_mode():
                batch.reference = module.scores(batch)
        terms = module.terms(batch)
        means = module.weighted(terms, batch)
        loss = torch.stack([module.weights[name] * mean for name, mean in means.items()]).sum()
        module._require_finite(loss, means, batch)
        # What callbacks add up after each micro-batch.
        outputs = {"terms": {name: term.detach() for name, term in terms.items()}}
        for metrics in (PreferenceMetrics(), FlowMetrics()):
            metrics.sums(outputs)
    assert loss.device.type == "cuda"
    assert counted.syncs == [FINITE]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ROWS_BUILDERS)
def test_rows_of_every_family_wait_for_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of unequal lengths, encoded for real, are scored on fake CUDA tensors."""
    monkeypatch.setattr(transformers.masking_utils, "is_tracing", lambda *tensors: False)
    path = checkpoint(kind, tmp_path)
    encoded = loaded(path).encode(family_views())
    assert (encoded.packed.segments == PADDING).any()
    policy, mode = make_policy(path, lora=LORA), FakeMode()
    load_fake(policy, mode, "cuda")
    with HostSyncs(mode) as counted:
        device = torch.device("cuda")
        encoded.packed = encoded.packed.sent(device)
        encoded.kept = encoded.kept.to(device)
        # What is a tensor is there already, as the tower left it; what is not is the family's to send.
        encoded.vision = tuple(part.to(device) if isinstance(part, Tensor) else part for part in encoded.vision)
        counted.syncs.clear()
        log_probs = policy.score(encoded).log_probs
    assert log_probs.device.type == "cuda"
    assert counted.syncs == []


#: Those in whose towers or processors transformers reads values from the device.
READING = ("gemma4", "smolvlm", "llava_next_video", "video_llama_3")
NOT_READING = tuple(kind for kind in FAMILIES if kind not in READING)


@pytest.mark.parametrize("kind", slow_but(("video_llava", "qwen2_5_vl", "qwen3_vl"), NOT_READING))
def test_encoding_and_scores_of_every_family_wait_for_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a run: a worker has resized the frames, which go to the GPU as a batch."""
    monkeypatch.setattr(transformers.masking_utils, "is_tracing", lambda *tensors: False)
    policy, mode = make_policy(checkpoint(kind, tmp_path), lora=LORA), FakeMode()
    load_fake(policy, mode, "cuda")
    views = share_frames(family_views(kind), policy.frame_resizer())
    samples = 1 + max(view.sample for view in views)
    batch = VistaBatch([f"s{sample}" for sample in range(samples)], views, torch.ones(samples, dtype=torch.bool))
    with HostSyncs(mode) as counted:
        batch = batch.to("cuda")
        policy.encode(batch.views)  # a processor keeps its mean and deviation on the device from the first batch on
        counted.syncs.clear()
        encoded = policy.encode(batch.views)
        assert counted.syncs == []
        log_probs = policy.score(encoded).log_probs
    assert log_probs.device.type == "cuda"
    assert counted.syncs == []


MASK = torch.tensor([True, False])
WAITS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda values: float(values.sum()),
    "bool": lambda values: bool(values[0] > 0),
    "tolist": lambda values: values.tolist(),
    "equal": lambda values: torch.equal(values, values),
    "cpu": lambda values: values.cpu(),
    "copy_": lambda values: torch.zeros(2).copy_(values),
    "tensor": lambda values: torch.tensor([1.0, 2.0], device=values.device),
    "new_tensor": lambda values: values.new_tensor([1.0, 2.0]),
    "list index": lambda values: values[[0, 1]],
    "to": lambda values: MASK.to(values.device),
    "to of pageable memory": lambda values: MASK.to(values.device, non_blocking=True),
    "to in step": lambda values: MASK.pin_memory().to(values.device),
    "assignment by a mask": lambda values: values.index_put_((values > 0,), values[0]),
}
#: Fake tensors refuse these, whose size they cannot know, once they are counted.
REFUSED: dict[str, Callable[[Tensor], Any]] = {
    "nonzero": lambda values: values.nonzero(),
    "mask": lambda values: values[values > 0],
    "masked_select": lambda values: values.masked_select(values > 0),
    "unique": torch.unique,
}
HARMLESS: dict[str, Callable[[Tensor], Any]] = {
    "where": lambda values: torch.where(values > 0, 0.3, 0.7),
    "index": lambda values: values[torch.zeros(2, dtype=torch.int64, device=values.device)],
    "full": lambda values: values.new_full((2,), 3.0),
    "scalar": lambda values: values * torch.tensor(2.0),
    "on the CPU": lambda values: MASK.nonzero().tolist(),
    "page-locked": lambda values: MASK.pin_memory().to(values.device, non_blocking=True),
}


@pytest.mark.parametrize("name", [*WAITS, *REFUSED, *HARMLESS])
def test_what_is_counted(name: str) -> None:
    mode = FakeMode()
    with mode:
        values = torch.zeros(2, device="cuda")
    with HostSyncs(mode) as counted:
        if name in REFUSED:
            with pytest.raises(Exception, match="aten"):
                REFUSED[name](values)
        else:
            (WAITS | HARMLESS)[name](values)
    assert bool(counted.syncs) == (name not in HARMLESS)


def test_numbers_are_logged_from_the_cpu() -> None:
    """A plain number Lightning would copy to the device of the module, in step."""
    values = as_logged({"rate": 0.1, "items": torch.zeros((), device="meta")})
    assert {name: value.device.type for name, value in values.items()} == {"rate": "cpu", "items": "meta"}
    # The type in which Lightning has them, so that the logged digits stay.
    assert values["rate"].dtype == torch.float32
    assert values["rate"] == torch.tensor(0.1)
