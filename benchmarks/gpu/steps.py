"""Steps of both methods at true sizes, on one device and under FSDP2, through Lightning's own loop."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.gpu.methods import Batches, Method, method_of
from benchmarks.gpu.row import Outcome, Setting
from benchmarks.gpu.step_clock import StepClock
from callbacks.adapter_export import AdapterExport
from callbacks.cli.matmul_precision import MatmulPrecision
from callbacks.reference.model import ReferenceModel
from lightning_modules.strategies import AdapterFSDP

#: Steps that are not timed, and those that are; under FSDP2, and after the resume there.
WARMUP, TIMED = 3, 10
SHARDED_WARMUP, SHARDED_TIMED, RESUMED = 2, 2, 1
_GIB = 2**30


class TrainedWeights(Callback):
    """Callback that keeps what trains, when a fit ends and when one begins that goes on."""

    def __init__(self) -> None:
        self.first: dict[str, Tensor] = {}
        self.last: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep them after a checkpoint was restored."""
        self.first = _trained(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what was trained."""
        self.last = _trained(trainer, pl_module)


def measure(setting: Setting, name: str, sharded: bool) -> Outcome:
    """Time the steps of a method.

    Args:
        setting: of the row.
        name: of the method.
        sharded: under FSDP2 with one rank; then it is saved, resumed and exported, too.
    """
    method = method_of(name, setting.checkpoint(name), setting.dry_run)
    if sharded:
        return _sharded(setting, name, method)
    clock = StepClock(WARMUP, setting.deadline)
    _fit(setting, method, [clock], WARMUP + TIMED, precision=method.precision)
    return Outcome(_summary(clock), _values(clock, method), _fault(clock, TIMED))


def _sharded(setting: Setting, name: str, method: Method) -> Outcome:
    folder = setting.scratch
    clock, weights = StepClock(SHARDED_WARMUP, setting.deadline, reserve=25.0), TrainedWeights()
    saved = ModelCheckpoint(folder / "checkpoints", save_last=True, enable_version_counter=False)
    steps = SHARDED_WARMUP + SHARDED_TIMED
    _fit(setting, method, [clock, weights, saved], steps, strategy=_strategy(setting))
    values, fault = _values(clock, method), _fault(clock, SHARDED_TIMED)
    # The first run's model leaves the card before the second one's comes.
    del method
    gc.collect()
    if not setting.dry_run:
        torch.cuda.empty_cache()
    again, resumed = method_of(name, setting.checkpoint(name), setting.dry_run), TrainedWeights()
    late = StepClock(SHARDED_WARMUP, setting.deadline)
    callbacks = [late, resumed, AdapterExport(str(folder / "exports"))]
    checkpoint = folder / "checkpoints/last.ckpt"
    _fit(setting, again, callbacks, steps + RESUMED, checkpoint, strategy=_strategy(setting))
    exported = folder / "exports/last"
    values |= {
        "resumed_equal": equal(weights.last, resumed.first),
        "steps_after_resume": len(late.losses),
        "exported_equal": equal_values(resumed.last.values(), _exported(exported)),
        "exported_tensors": len(_exported(exported)),
    }
    fault = fault or _fault(late, 0)
    if not values["resumed_equal"]:
        fault = "the resumed weights are not those that were saved"
    elif values["steps_after_resume"] != RESUMED:
        fault = f"{len(late.losses)} steps after the resume, expected {RESUMED}"
    elif not values["exported_equal"]:
        fault = "the export is not what was trained"
    tail = f"; resumed and exported equal: {values['resumed_equal']}, {values['exported_equal']}"
    return Outcome(_summary(clock) + tail, values, fault)


def _strategy(setting: Setting) -> AdapterFSDP:
    """As configs/strategy/fsdp.yaml has it."""
    return AdapterFSDP("bfloat16", "float32", process_group_backend="gloo" if setting.dry_run else "nccl")


def _fit(
    setting: Setting,
    method: Method,
    callbacks: Sequence[Callback],
    steps: int,
    checkpoint: Path | None = None,
    precision: str = "32-true",
    strategy: Any = "auto",
) -> None:
    trainer = Trainer(
        accelerator=setting.accelerator, devices=1, strategy=strategy, precision=precision, max_steps=steps,  # type: ignore[arg-type]
        gradient_clip_val=1.0, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        use_distributed_sampler=False, default_root_dir=setting.scratch, inference_mode=False,
        callbacks=[ReferenceModel(), MatmulPrecision(), *callbacks],
    )  # fmt: skip
    batches = Batches(method, steps, pinned=not setting.dry_run)
    loader: DataLoader[Any] = DataLoader(batches, batch_size=None, collate_fn=same)
    trainer.fit(method.module, loader, ckpt_path=checkpoint, weights_only=False)


def same(batch: Any) -> Any:
    """A batch as it is."""
    return batch


def _trained(trainer: Trainer, module: LightningModule) -> dict[str, Tensor]:
    """What trains, in full and on the CPU."""
    names = {name for name, weight in module.named_parameters() if weight.requires_grad}
    state = trainer.strategy.lightning_module_state_dict()
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items() if name in names}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states have the same names and, to the last digit, values; of nothing they are not."""
    return bool(one) and one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def equal_values(trained: Any, exported: Sequence[Tensor]) -> bool:
    """Whether the same tensors are there, in whatever order and under whatever names."""
    left, right = (sorted(map(_key, tensors)) for tensors in (trained, exported))
    return bool(left) and left == right


def _key(tensor: Tensor) -> tuple[tuple[int, ...], bytes]:
    return tuple(tensor.shape), tensor.detach().float().numpy().tobytes()


def _exported(folder: Path) -> list[Tensor]:
    return [tensor for file in sorted(folder.glob("*.safetensors")) for tensor in load_file(file).values()]


def _values(clock: StepClock, method: Method) -> dict[str, Any]:
    return {
        "sample": method.sample,
        "seconds": clock.seconds,
        "peak_bytes": clock.peak,
        "syncs": dict(clock.syncs.most_common()),
        "losses": [float(loss) for loss in clock.losses],
    }


def _summary(clock: StepClock) -> str:
    if not clock.seconds:
        return "no step was timed"
    peak = "" if clock.peak is None else f", peak {clock.peak / _GIB:.1f} GiB"
    times = f"{statistics.median(clock.seconds):.3g} s a step ({len(clock.seconds)} timed)"
    return f"{times}{peak}, {clock.syncs.total()} synchronisations"


def _fault(clock: StepClock, timed: int) -> str:
    if not all(torch.isfinite(loss) for loss in clock.losses):
        return "a loss is not finite"
    if timed and not clock.seconds:
        return "the time was over before a step could be timed"
    return ""
