"""`python -m benchmarks.speed profile`, `profile_dense`: where the time of a step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.speed.dense import pair_batch
from benchmarks.speed.loader import vista_loader
from benchmarks.speed.models import save_wan, train_a_little
from benchmarks.speed.options import Clock, DenseOptions, Options, RunOptions, clock_line
from benchmarks.speed.table import machine_line, print_table, write_report
from benchmarks.speed.vista_run import loaded, write_run
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.preference import PreferenceModule
from lightning_modules.vista_dpo import VistaDPO

#: Parts of a step, in order.
PARTS = ("loader", "tower", "reference", "policy", "terms", "backward", "optimizer")
#: What each part is.
MEANINGS = {
    "loader": "reading, decoding and making views in this process",
    "tower": "resizing, tokenising and the frozen vision tower, once for policy and reference",
    "reference": "forward with the adapters off",
    "policy": "forward with a graph: the decoder, or the video transformer, and the head at answers",
    "terms": "the loss from the scores",
    "backward": "the gradient of all that",
    "optimizer": "clipping and AdamW",
}


class PartTimes:
    """Times of a step's parts; while a part within a part runs, the outer one's clock stands still.

    Args:
        clock: what seconds are of.
    """

    def __init__(self, clock: Clock) -> None:
        self._now: Callable[[], float] = time.perf_counter if clock == "wall" else time.process_time
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count what runs within it as a part."""
        self._switch()
        self._running.append(part)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def _switch(self) -> None:
        now = self._now()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


def profile(options: RunOptions) -> dict[str, Any]:
    """Measure VistaDPO's steps and report.

    Returns:
        The content of the report.
    """
    times = PartTimes(options.clock)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        index_file = write_run(options, folder)
        module = loaded(options, folder)
        step = Step(module, times)
        for number in range(options.repeats + 1):
            # The first sample again and again: each step has the same work.
            batches = iter(vista_loader(index_file, options.frames, options.seed, module.needs()))
            with times("loader"):
                batch = next(batches)
            step(batch)
            if number == 0:  # the first one is the warm-up
                times.seconds.clear()
    return _reported("VistaDPO, one sample, six views", options, times)


def profile_dense(options: DenseOptions) -> dict[str, Any]:
    """Measure DenseDPO's steps and report; the pair is in memory.

    Returns:
        The content of the report.
    """
    times = PartTimes(options.clock)
    with TemporaryDirectory() as temporary:
        save_wan(options, Path(temporary))
        policy = WanPolicy(temporary, lora=FlowLora(r=options.rank, alpha=options.rank))
        policy.load()
    train_a_little(policy, options.seed)
    module = DenseDPO(policy, partial(torch.optim.AdamW, lr=1e-5, weight_decay=0.0))
    step = Step(module, times)
    for number in range(options.repeats + 1):
        step(pair_batch(options))
        if number == 0:
            times.seconds.clear()
    return _reported("DenseDPO, one pair in memory", options, times)


class Step:
    """Training step in its parts, in the order in which a fit makes them.

    Args:
        module: the method, its policy loaded.
        times: of the parts.
    """

    def __init__(self, module: PreferenceModule, times: PartTimes) -> None:
        self.module, self.times = module, times
        self.weights = list(module.trainable().values())
        self.optimizer = module.optimizer(self.weights)

    def __call__(self, batch: Any) -> None:
        """Make a step."""
        module, times, policy = self.module, self.times, self.module.policy
        if isinstance(module, VistaDPO):
            with times("tower"), torch.no_grad():
                module.encoded(batch)
        scores = module.scores
        with times("reference"), torch.no_grad(), policy.reference_mode():
            batch.reference = scores(batch)

        def timed(*arguments: Any) -> Any:
            with times("policy"):
                return scores(*arguments)

        # The step itself is measured, with a clock around its forward.
        vars(module)["scores"] = timed
        with times("terms"):
            means = module.weighted(module.terms(batch), batch)
            loss = torch.stack([module.weights[name] * mean for name, mean in means.items()]).sum()
        del vars(module)["scores"]
        with times("backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        with times("optimizer"):
            torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()


def _reported(title: str, options: Options, times: PartTimes) -> dict[str, Any]:
    together = sum(times.seconds.values())
    shares = {part: times.seconds[part] / together for part in PARTS if part in times.seconds}
    rows = [[part, f"{times.seconds[part] / options.repeats:.3f}", f"{share:.1%}"] for part, share in shares.items()]
    rows.append(["together", f"{together / options.repeats:.3f}", "100.0%"])
    title = f"Where a step's time goes: {title}"
    print_table(title, ("part", "seconds", "share"), rows, [clock_line(options.clock), machine_line(options)])
    return write_report(title, options, [{"name": part, "share": share} for part, share in shares.items()])
