"""`python -m benchmarks.speed vista | dpo | dense | index`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jsonargparse import ActionYesNo, ArgumentParser

from benchmarks.speed.dense import dense
from benchmarks.speed.dpo import dpo
from benchmarks.speed.index import index
from benchmarks.speed.options import DenseOptions, DpoOptions, IndexOptions, Options, VistaOptions
from benchmarks.speed.vista import vista

COMMANDS: dict[str, tuple[type[Options | IndexOptions], Callable[[Any], dict[str, Any]], str]] = {
    "vista": (VistaOptions, vista, "VistaDPO's step against the released schedule and against separate sequences"),
    "dpo": (DpoOptions, dpo, "plain DPO's step against TRL's DPOTrainer"),
    "dense": (DenseOptions, dense, "DenseDPO's step with the reference by adapters off, and by a frozen copy"),
    "index": (IndexOptions, index, "opening an index of many samples: time, and memory of ranks and workers"),
}
#: Switches: options without a value, and as `--no_...`.
SWITCHES = {
    "memory": "measure every row's peak memory, each in a process of its own",
    "tower": "add rows with the vision tower in the loop",
    "former": "also measure the format of 0.1.0, which takes about 2.5 KB of memory a sample",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run one comparison.

    Args:
        arguments: without the program's name; None = the process's own.
    """
    # Before transformers is imported, here and in the processes that measure memory: it reads them then.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    parser = ArgumentParser(
        prog="python -m benchmarks.speed", description="speed and memory of a training step, and of an index"
    )
    subcommands = parser.add_subcommands()
    for name, (options, _, text) in COMMANDS.items():
        command = ArgumentParser(description=text)
        switches = {switch: help for switch, help in SWITCHES.items() if switch in options.__dataclass_fields__}
        command.add_class_arguments(options, skip=set(switches))
        for switch, description in switches.items():
            default = options.__dataclass_fields__[switch].default
            command.add_argument(f"--{switch}", action=ActionYesNo(no_prefix="no_"), default=default, help=description)
        subcommands.add_subcommand(name, command, help=text)
    parsed = parser.parse_args(sys.argv[1:] if arguments is None else list(arguments))
    options, run, _ = COMMANDS[parsed.subcommand]
    chosen = options(**vars(parsed[parsed.subcommand]))
    if chosen.repeats < 1:
        parser.error("repeats: give at least 1")
    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    run(chosen)


if __name__ == "__main__":
    main()
