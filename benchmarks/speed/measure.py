"""Measurements of a step: time in turn with other rows, counted operations, and peak memory in its own process."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.speed.options import Clock, Options

#: Rows and columns of the square float32 product whose rate the steps' rates are compared with.
PRODUCT_SIZE = 4096
#: Rows of one comparison compute the same loss within this.
TOLERANCE = 1e-4
#: glibc's variable for the size in bytes from which a freed block goes back to the system.
_KEPT = "MALLOC_MMAP_THRESHOLD_"

Result = TypeVar("Result")


class Loss(Protocol):
    """Loss of a step, computed in one way."""

    def __call__(self) -> Tensor:
        """The loss with its graph."""

    def clear(self) -> None:
        """Drop the gradients."""


@dataclass
class StepMeasurement:
    """Measurements of a step, one row of the table.

    Attributes:
        name: its name in the table.
        loss: the loss it computes.
        flops: floating-point operations of one step, forward and backward, as counted.
        seconds: time of each step.
        before: bytes of the process before the step, in memory; None = not measured.
        peak: bytes of the process at the step's highest point.
    """

    name: str
    loss: float
    flops: int
    seconds: list[float] = field(default_factory=list)
    before: int | None = None
    peak: int | None = None

    @property
    def median(self) -> float:
        """The median time, seconds."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Operations per second at the median time."""
        return self.flops / self.median


def measure(
    rows: Mapping[str, Loss], repeats: int, clock: Clock = "wall"
) -> tuple[list[StepMeasurement], StepMeasurement]:
    """Check that all rows compute one loss, count their operations, then time them in turn.

    Args:
        rows: name -> loss; a step is the loss and its backward.
        repeats: timed rounds.
        clock: what seconds are of.

    Returns:
        The rows, and a large matrix product that was timed in the same rounds.

    Raises:
        RuntimeError: two rows compute different losses, so that comparing their times says nothing.
    """
    measured = []
    for name, loss in rows.items():  # counting is also the warm-up
        with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
            value = step(loss)
        measured.append(StepMeasurement(name, value, counter.get_total_flops()))
    values = [row.loss for row in measured]
    if not max(values) - min(values) <= TOLERANCE:
        raise RuntimeError(f"the rows compute different losses: {dict(zip(rows, values, strict=True))}")
    # Timed in the same rounds, so that a busy or throttled machine slows all of them alike.
    left, right = torch.randn(2, PRODUCT_SIZE, PRODUCT_SIZE).unbind()
    product = StepMeasurement(f"{PRODUCT_SIZE} x {PRODUCT_SIZE} product", 0.0, 2 * PRODUCT_SIZE**3)
    left @ right
    for _ in track(range(repeats), "timing", console=Console(stderr=True), transient=True):
        for row in measured:
            row.seconds.append(timed_step(rows[row.name], clock))
        product.seconds.append(_timed(lambda: left @ right, clock))
    return measured, product


def step(loss: Loss) -> float:
    """One step without an optimizer: the loss and its backward. Gradients are dropped afterwards."""
    value = loss()
    value.backward()  # type: ignore[no-untyped-call]
    loss.clear()
    return float(value.detach())


def timed_step(loss: Loss, clock: Clock) -> float:
    """The seconds of a step."""
    return _timed(partial(step, loss), clock)


def measure_built(
    build: Callable[..., Mapping[str, Loss]], options: Options, *arguments: Any
) -> tuple[list[StepMeasurement], StepMeasurement]:
    """`measure` of the rows of a command and, where it is asked for, the memory of each.

    Args:
        build: a function of a module, which makes the rows.
        options: of the command; the first argument of `build`.
        *arguments: further ones.

    Returns:
        As `measure`.

    Raises:
        RuntimeError: as `measure`.
    """
    rows, product = measure(build(options, *arguments), options.repeats, options.clock)
    if options.memory:
        for row in rows:
            row.before, row.peak = peak_memory(build, row.name, options, *arguments)
    return rows, product


def peak_memory(build: Callable[..., Mapping[str, Loss]], name: str, *arguments: Any) -> tuple[int, int]:
    """Bytes of a fresh process before a row's step, with model and inputs in memory, and at the step's highest point.

    Args:
        build: a function of a module, which makes the rows in the new process.
        name: the row.
        *arguments: for `build`.
    """
    return in_fresh_process(_peak, build, name, torch.get_num_threads(), *arguments)


def in_fresh_process(call: Callable[..., Result], *arguments: Any) -> Result:
    """What a function returns in a new process, in which large blocks that are freed go back to the system at once.

    By itself glibc keeps free blocks of up to 32 MiB, so that a process may stay at several times what it ever held.

    Args:
        call: a function of a module.
        *arguments: for it.
    """
    before = os.environ.get(_KEPT)
    os.environ[_KEPT] = str(1 << 20)  # read when a process starts
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(call, *arguments).result()
    finally:
        os.environ.pop(_KEPT)
        if before is not None:
            os.environ[_KEPT] = before


def _peak(build: Callable[..., Mapping[str, Loss]], name: str, threads: int, *arguments: Any) -> tuple[int, int]:
    """The body of `peak_memory` in the new process."""
    torch.set_num_threads(threads)
    return peak_of(partial(step, build(*arguments)[name]))


def peak_of(call: Callable[[], object]) -> tuple[int, int]:
    """Bytes of this process before a call, and at its highest point during it."""
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the process's highest point to the present one
    except OSError:
        before = None  # the highest point is then that of everything, loading included
    else:
        before = _status("VmRSS")
    call()
    highest = _status("VmHWM") if before is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return before or highest, highest


def _status(field_name: str) -> int:
    """A size of this process in bytes, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(field_name))
    return int(line.split()[1]) * 1024


def _timed(call: Callable[[], object], clock: Clock) -> float:
    """The seconds of a call; of the processor, all threads together."""
    now = time.perf_counter if clock == "wall" else time.process_time
    start = now()
    call()
    return now() - start


def _forward_flops(query: Any, key: Any, value: Any, _: float = 0.0, causal: bool = False, **__: Any) -> int:
    flops: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return flops // (2 if causal else 1)


def _backward_flops(
    gradient: Any, query: Any, key: Any, value: Any, _: Any, __: Any, ___: float, causal: bool, **____: Any
) -> int:
    flops: int = sdpa_backward_flop_count(gradient, query, key, value)  # type: ignore[no-untyped-call]
    return flops // (2 if causal else 1)


#: torch counts a causal attention as a full one; its CPU kernel skips the masked half.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_flops,
}
