"""`python -m benchmarks.speed COMMAND`: steps of training, what they read, and indexes; COMMANDS lists them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jsonargparse import ActionYesNo, ArgumentParser

from benchmarks.speed.dense import dense
from benchmarks.speed.dpo import dpo
from benchmarks.speed.epochs import epochs
from benchmarks.speed.frames import frames
from benchmarks.speed.index import index
from benchmarks.speed.length import length
from benchmarks.speed.loader import loader
from benchmarks.speed.options import (
    DenseOptions,
    DpoOptions,
    FramesOptions,
    IndexOptions,
    LengthOptions,
    LoaderOptions,
    Measuring,
    RunOptions,
    SampleOptions,
    VistaOptions,
)
from benchmarks.speed.profile import profile, profile_dense
from benchmarks.speed.sample import sample
from benchmarks.speed.vista import vista

COMMANDS: dict[str, tuple[type[Measuring], Callable[[Any], dict[str, Any]], str]] = {
    "vista": (VistaOptions, vista, "VistaDPO's step against the released schedule and against separate sequences"),
    "dpo": (DpoOptions, dpo, "plain DPO's step against TRL's DPOTrainer"),
    "dense": (DenseOptions, dense, "DenseDPO's step with the reference by adapters off, and by a frozen copy"),
    "epochs": (RunOptions, epochs, "VistaDPO over several epochs, with a live and with a remembered reference"),
    "profile": (RunOptions, profile, "where the time of VistaDPO's step goes"),
    "profile_dense": (DenseOptions, profile_dense, "where the time of DenseDPO's step goes"),
    "loader": (LoaderOptions, loader, "the loader against bare decoding and a plain webdataset pipeline"),
    "sample": (SampleOptions, sample, "bytes of a sample's frames on their way to the step, by family"),
    "frames": (FramesOptions, frames, "memory of VistaDPO's step against the frames of its views"),
    "length": (LengthOptions, length, "a few frames of a long video"),
    "index": (IndexOptions, index, "opening an index of many samples: time, and memory of ranks and workers"),
}
#: Switches: options without a value, and as `--no_...`.
SWITCHES = {
    "memory": "measure every row's peak memory, each in a process of its own",
    "tower": "add rows with the vision tower in the loop",
    "checkpointing": "recompute the activations of blocks in backward",
    "former": "also measure the format of 0.1.0, which takes about 2.5 KB of memory a sample",
}
QUICK = "--quick"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run one comparison.

    Args:
        arguments: without the program's name; None = the process's own.
    """
    # Before transformers is imported, here and in the processes that measure memory: it reads them then.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = ArgumentParser(
        prog="python -m benchmarks.speed", description="speed and memory of a training step, of loading and of an index"
    )
    subcommands = parser.add_subcommands()
    for name, (options, _, text) in COMMANDS.items():
        subcommands.add_subcommand(name, _command(options, text, QUICK in given), help=text)
    parsed = parser.parse_args(given)
    options, run, _ = COMMANDS[parsed.subcommand]
    values = vars(parsed[parsed.subcommand])
    values.pop("quick")
    chosen = options(**values)
    if getattr(chosen, "repeats", 1) < 1:
        parser.error("repeats: give at least 1")
    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    run(chosen)


def _command(options: type[Measuring], text: str, quick: bool) -> ArgumentParser:
    command = ArgumentParser(description=text)
    switches = {switch: help for switch, help in SWITCHES.items() if switch in options.__dataclass_fields__}
    command.add_class_arguments(options, skip=set(switches))
    for switch, description in switches.items():
        default = options.__dataclass_fields__[switch].default
        command.add_argument(f"--{switch}", action=ActionYesNo(no_prefix="no_"), default=default, help=description)
    command.add_argument(QUICK, action="store_true", help="small sizes that only show that the command runs")
    if quick:
        command.set_defaults(options.quick())
    return command


if __name__ == "__main__":
    main()
