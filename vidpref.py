"""The command: ``vidpref {fit,validate,test,predict}`` on YAML files, and ``vidpref prepare`` for data."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

# What trains is imported only when a verb needs it, so that every --help answers at once.

VERBS = {
    "prepare": "turn videos and annotations into shards, index and verify shards",
    "fit": "train; run the same command again to resume",
    "validate": "the loss and its terms on validation data",
    "test": "run a benchmark",
    "export": "write the adapter, or the model, that a checkpoint of a run holds",
    "predict": "write what a model makes of data: reference scores, pairs, labels, latents, videos",
}

USAGE = """usage: vidpref [--debug] <verb> [options]
       vidpref <verb> --help
       vidpref --version

Train video models on preferences, and measure what that did.

{verbs}

A run is a YAML file and flags over it; later ones win, and `callbacks+:` adds to a list:
  vidpref prepare toy --help
  vidpref fit --config configs/vista_dpo/video_llava_lora.yaml --data.train my-shards/train.index.json
  vidpref fit --config <experiment>.yaml --config configs/strategy/fsdp.yaml --model.beta 0.2
  vidpref fit --config <experiment>.yaml --print_config

--debug, or VIDPREF_DEBUG=1 in the environment, shows the traceback of an error.
"""


class Prepare(NamedTuple):
    """Where a kind of preparation is implemented; its parameters are its options."""

    module: str
    function: str
    summary: str


PREPARE = {
    "toy": Prepare("datamodules.prepare.toy", "prepare_toy", "the toy world: videos of moving shapes, with questions"),
    "vistadpo": Prepare("datamodules.prepare.vistadpo", "prepare_vistadpo", "the released VistaDPO layout"),
    "jsonl": Prepare("datamodules.prepare.own_videos", "prepare_jsonl", "your own videos, annotated in a JSONL file"),
    "videos": Prepare(
        "datamodules.prepare.videos", "prepare_videos", "real videos with captions: clips of one size, length and rate"
    ),
    "toy-videos": Prepare(
        "datamodules.prepare.toy_videos", "prepare_toy_videos", "the toy world for generation: one moving shape a video"
    ),
    "labels": Prepare("datamodules.prepare.labels", "prepare_labels", "labels that people gave, from a CSV file"),
    "agreement": Prepare(
        "datamodules.prepare.label_agreement", "label_agreement", "how far two sets of labels of the same pairs agree"
    ),
    "index": Prepare("datamodules.prepare.index", "prepare_index", "make the index for shards that others wrote"),
    "verify": Prepare("datamodules.prepare.index", "prepare_verify", "check every byte and every video of a data set"),
    "overlap": Prepare(
        "datamodules.prepare.overlap", "prepare_overlap", "list the videos that shards and a benchmark share"
    ),
}

PREPARE_USAGE = """usage: vidpref prepare <source> [options]
       vidpref prepare <source> --help

{sources}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for an error in the input or the run, 2 for one in the command.

    Args:
        argv: the arguments after the program's name; None = those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--debug" in arguments:
        arguments = [one for one in arguments if one != "--debug"]
        os.environ["VIDPREF_DEBUG"] = "1"  # processes that a strategy starts shall show theirs too
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE.format(verbs=_table(VERBS)), end="")
        return 0
    verb, *rest = arguments
    if verb == "--version":
        print(f"vidpref {version('vidpref')}")
        return 0
    if verb not in VERBS:
        sys.stderr.write(f"unknown verb '{verb}'; the verbs are {', '.join(VERBS)} (vidpref --help)\n")
        return 2
    try:
        if verb in ("prepare", "export"):
            return prepare(rest) if verb == "prepare" else export(rest)
        return run(arguments)
    except Exception as error:
        from callbacks.cli.config_errors import error_message
        from callbacks.cli.file_errors import file_fault

        fault = file_fault(error, rest)
        if os.environ.get("VIDPREF_DEBUG", "0") not in ("", "0") or not (fault or is_readable(error)):
            traceback.print_exc()
        else:
            rank = os.environ.get("LOCAL_RANK", "0")
            where = "" if rank == "0" else f" (process {rank})"
            sys.stderr.write(f"error{where}: {fault or error_message(error)}\n")
            sys.stderr.write("(--debug shows where in the code)\n")
        return 1


def is_readable(error: Exception) -> bool:
    """Whether an error's message speaks to the user; that of any other error needs its traceback."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from callbacks.cli.lost_processes import LostProcessError

    speaking = ValueError | OSError | FloatingPointError | MisconfigurationException | LostProcessError
    return isinstance(error, speaking)


def run(arguments: list[str]) -> int:
    """Hand a verb to Lightning: `arguments` begin with fit, validate, test or predict."""
    from callbacks.cli.command_line import VidprefCLI

    quieten()
    VidprefCLI(arguments)
    leave_process_group()
    return 0


def leave_process_group() -> None:
    """Part from the other ranks in order: left to the interpreter's end, a group whose peer is gone can crash."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def quieten() -> None:
    """Leave out what Lightning says that no user of this command can act on."""
    from callbacks.cli.lost_processes import ObserverFilter

    # Both are how `ckpt_path: last` works: nothing to restore at the first start, files there at the next.
    warnings.filterwarnings("ignore", message=".*there is no last checkpoint available.*")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty.*")
    # The recovery checkpoint of version 0.1.0 was written by another callback, whose state is not needed.
    former = r"ModelCheckpoint\{'monitor': None, 'mode': 'min', 'every_n_train_steps': 100, [^}]*\}"
    warnings.filterwarnings("ignore", message=rf".*Please add the following callbacks: \[\"{former}\"\]")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated.*")  # Lightning's own use of torch
    # No validation data is a choice, and so is a run shorter than the interval of logging.
    warnings.filterwarnings("ignore", message="Total length of .* across ranks is zero.*")
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    # The state of our loaders lies with the data module, where Lightning does not look.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # Video-LLaVA's processor of single pictures exists for PIL alone.
    logging.getLogger("transformers.models.auto.image_processing_auto").addFilter(
        lambda record: "backend is not available" not in record.getMessage()
    )
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").addFilter(ObserverFilter())
    # An advertisement for a logger, and a step of the set-up.
    unwanted = ("Tip:", "to estimate number of stepping batches")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not any(one in str(record.msg) for one in unwanted)
    )


def prepare(arguments: list[str]) -> int:
    """Run one kind of preparation: its required parameters by position, the others by name."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(PREPARE_USAGE.format(sources=_table({name: one.summary for name, one in PREPARE.items()})), end="")
        return 0
    name, *rest = arguments
    if name not in PREPARE:
        sys.stderr.write(f"unknown source '{name}'; the sources are {', '.join(PREPARE)} (vidpref prepare --help)\n")
        return 2
    function = function_of(PREPARE[name])
    parser = prepare_parser(name, function)
    options = parser.instantiate(parser.parse_args(spelled_out(rest, parser)))
    options.pop("config", None)
    function(**options)
    return 0


def export(arguments: list[str]) -> int:
    """Write what a checkpoint of a run holds; see `export_run`."""
    from callbacks.export_run import export_run

    parser = prepare_parser("export", export_run, "vidpref")
    options = parser.instantiate(parser.parse_args(spelled_out(arguments, parser)))
    options.pop("config", None)
    export_run(**options)
    return 0


def function_of(source: Prepare) -> Callable[..., Any]:
    """The function behind a kind of preparation."""
    found: Callable[..., Any] = getattr(importlib.import_module(source.module), source.function)
    return found


def prepare_parser(name: str, function: Callable[..., Any], prog: str = "vidpref prepare") -> ArgumentParser:
    """The options of a function: what it requires by position, the rest by name; several paths need no brackets."""
    import docstring_parser
    from jsonargparse import ArgumentParser

    import_named_classes(function)
    told = docstring_parser.parse(function.__doc__ or "")
    parser = ArgumentParser(prog=f"{prog} {name}", description=told.short_description)
    parser.add_argument("--config", action="config", help="a YAML file with these options")
    helps = {one.arg_name: one.description for one in told.params}
    several: set[str | int] = {
        one.name
        for one in inspect.signature(function, eval_str=True).parameters.values()
        if one.default is inspect.Parameter.empty and one.annotation == list[str]
    }
    for parameter in sorted(map(str, several)):
        parser.add_argument(parameter, nargs="+", type=str, help=helps.get(parameter))
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=several)
    return parser


def import_named_classes(function: Callable[..., Any]) -> None:
    """Import the classes that the options of a function may name, as filters do; nothing where all are plain values."""
    import typing

    annotations = typing.get_type_hints(function).values()
    parts = [part for one in annotations for part in (one, *typing.get_args(one)) if isinstance(part, type)]
    if any(part.__module__.startswith("datamodules.") for part in parts):
        from callbacks.cli.class_names import import_config_classes

        import_config_classes(("datamodules", "lightning_modules.judges"))


def spelled_out(arguments: list[str], parser: ArgumentParser) -> list[str]:
    """Arguments as the parser wants them, from the way people type: ``--skip-bad`` for ``--skip_bad=true``."""
    switches = {f"--{action.dest}" for action in parser._actions if action.default is False}
    found = []
    for number, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            flag = f"--{flag[2:].replace('-', '_')}"
            bare = not equals and arguments[number + 1 : number + 2] not in (["true"], ["false"])
            argument = f"{flag}=true" if flag in switches and bare else flag + equals + value
        found.append(argument)
    return found


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())


if __name__ == "__main__":
    sys.exit(main())
