"""Everything that trains must get a gradient in the first optimizer step whose loss has items."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from callbacks.reference.model import ReferenceModel
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.vista_dpo import VistaDPO, VistaWeights
from tests.support.preference_fakes import FakePairs, TinyPolicy, make_batch, make_module, make_trainer


class IdlePolicy(TinyPolicy):
    """Trains tensors, besides its own, that no loss depends on."""

    def __init__(self, count: int) -> None:
        super().__init__(lora=False)
        self.idle = nn.ParameterList(torch.zeros(1) for _ in range(count))


def module_with_idle(count: int) -> VistaDPO:
    weights = VistaWeights(clip=0, object=0)
    return VistaDPO(IdlePolicy(count), partial(torch.optim.SGD, lr=0.05), weights=weights, warmup=0.0)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_tensors_that_the_loss_does_not_reach_are_named_at_the_first_step(accumulation: int) -> None:
    trainer = make_trainer([ReferenceModel("copy")], steps=2, accumulate_grad_batches=accumulation)
    with pytest.raises(
        ValueError, match=r"12 of 15 tensors .*: policy\.idle\.0, .*policy\.idle\.9 and 2 more\. "
    ) as failed:
        trainer.fit(module_with_idle(12), FakePairs([make_batch([sample]) for sample in range(4)]))
    assert "idle.10" not in str(failed.value)
    assert trainer.global_step == 0


def test_steps_without_items_are_not_judged_and_the_next_with_some_is() -> None:
    module, empty = module_with_idle(1), make_batch([0], masked=(0,), total=1)
    trainer = make_trainer([ReferenceModel("copy")], steps=2)
    trainer.fit(module, FakePairs([empty, empty]))
    assert trainer.global_step == 2
    trainer = make_trainer([ReferenceModel("copy")], steps=3)
    with pytest.raises(ValueError, match=r"1 of 4 tensors that train got no gradient .*: policy\.idle\.0\."):
        trainer.fit(module_with_idle(1), FakePairs([empty, make_batch([1]), make_batch([2])]))
    assert trainer.global_step == 1


def test_it_is_checked_once() -> None:
    """A tensor that a later step does not reach, as under a schedule of weights, is no fault."""
    module = make_module()
    checked: list[int] = []
    trainable = module.trainable

    def counted() -> Any:
        if module._unchecked_items:
            checked.append(module.global_step)
        return trainable()

    module.trainable = counted  # type: ignore[method-assign]
    make_trainer([ReferenceModel()], steps=3).fit(module, FakePairs([make_batch([sample]) for sample in range(3)]))
    assert checked == [0]


def test_targets_are_read_from_configurations_as_text_and_as_list(tmp_path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--lora", type=LoraSettings | None)
    for text, targets in (
        ("all-linear", "all-linear"),
        ("[q_proj, v_proj]", ["q_proj", "v_proj"]),
        (r"'.*_(q|k)'", ".*_(q|k)"),
    ):
        (tmp_path / "config.yaml").write_text(f"lora:\n  targets: {text}\n")
        assert parser.parse_path(tmp_path / "config.yaml").lora.targets == targets
    assert parser.parse_args(["--lora.targets=[q_proj,v_proj]"]).lora.targets == ["q_proj", "v_proj"]
    assert parser.parse_args(["--lora.targets=q_proj"]).lora.targets == "q_proj"
