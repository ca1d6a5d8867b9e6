"""Rows of the proof: what each one measures, within which time, and how it says what came out."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

#: How a row ended.
State = Literal["passed", "failed", "late", "skipped"]
#: Files of the output.
ROWS_FOLDER, LOGS_FOLDER, SCRATCH_FOLDER = "rows", "logs", "scratch"


@dataclass(frozen=True, slots=True)
class Setting:
    """Setting of a row.

    Attributes:
        output: the folder of the whole proof.
        name: of the row.
        dry_run: small sizes on a CPU.
        deadline: `time.monotonic()` at which the row is ended.
    """

    output: Path
    name: str
    dry_run: bool
    deadline: float

    @property
    def device(self) -> str:
        """Of the tensors."""
        return "cpu" if self.dry_run else "cuda"

    @property
    def accelerator(self) -> str:
        """Lightning's name for it."""
        return "cpu" if self.dry_run else "gpu"

    @property
    def scratch(self) -> Path:
        """A folder for files of this row; all of them are removed after the proof."""
        folder = self.output / SCRATCH_FOLDER / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def checkpoint(self, method: str) -> Path:
        """The checkpoint with random weights of a method's step."""
        return self.output / SCRATCH_FOLDER / "weights" / method


@dataclass(slots=True)
class Outcome:
    """Outcome of a row.

    Attributes:
        summary: in a line.
        values: everything that was measured, in JSON types.
        fault: what is not as it must be; "" = nothing.
    """

    summary: str
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


@dataclass(slots=True)
class Result(Outcome):
    """Outcome of a row with how it ended.

    Attributes:
        name: of the row.
        state: how it ended; "skipped" = the time of the whole was over, or what it needs did not pass.
        seconds: how long it took, its start included.
        limit: seconds after which it would have been ended.
    """

    name: str = ""
    state: State = "passed"
    seconds: float = 0.0
    limit: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """Row of the proof.

    Attributes:
        name: on the command line and in the table.
        module: of `benchmarks.gpu`, whose `measure(setting, *arguments)` runs in a process of its own.
        limit: seconds after which it is ended.
        title: what it shows.
        arguments: of `measure` behind the setting.
        beside: it uses the CPU only and runs beside the others, from the start.
        needs: the row beside the others that must have passed.
    """

    name: str
    module: str
    limit: float
    title: str
    arguments: tuple[str | bool, ...] = ()
    beside: bool = False
    needs: str = ""

    def measure(self, setting: Setting) -> Outcome:
        """Run it in this process."""
        outcome: Outcome = importlib.import_module(f"benchmarks.gpu.{self.module}").measure(setting, *self.arguments)
        return outcome


#: In order. The limits of those that are not beside the others are ten minutes together.
ROWS = (
    Row("weights", "random_weights", 120, "checkpoints with random weights, in bfloat16", beside=True),
    Row("estimates", "estimates", 300, "what `vidpref estimate` computes of the steps", beside=True),
    Row("rate", "matrix_rate", 20, "rate of one large matrix product in bfloat16"),
    Row("tests", "marked_tests", 90, "pytest -m gpu"),
    Row("devices", "two_devices", 40, "three steps of both toys on CPU and GPU"),
    Row("kill", "kill", 60, "a fit of the toy world, killed by SIGKILL and resumed"),
    Row("kernels", "kernels", 25, "attention kernels"),
    Row("vista", "steps", 70, "VistaDPO step, Video-LLaVA-7B, LoRA", ("vista", False), needs="weights"),
    Row("dense", "steps", 130, "DenseDPO step, Wan2.1-1.3B, LoRA", ("dense", False), needs="weights"),
    Row("vista-fsdp", "steps", 70, "VistaDPO under FSDP2: save, resume, export", ("vista", True), needs="weights"),
    Row("dense-fsdp", "steps", 60, "DenseDPO under FSDP2: save, resume, export", ("dense", True), needs="weights"),
    Row("loader", "loading", 35, "1080p videos through the loader, 4 workers"),
)  # fmt: skip


def row_of(name: str) -> Row:
    """The row of a name."""
    return next(row for row in ROWS if row.name == name)
