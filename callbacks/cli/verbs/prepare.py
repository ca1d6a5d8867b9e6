"""``prepare``: a function's parameters as the options of a command."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from callbacks.cli.verbs import table

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


class Prepare(NamedTuple):
    """Where a kind of preparation is implemented; its parameters are its options."""

    module: str
    function: str
    summary: str


PREPARE = {
    "toy": Prepare("datamodules.prepare.toy", "prepare_toy", "the toy world: videos of moving shapes, with questions"),
    "vistadpo": Prepare("datamodules.prepare.vistadpo", "prepare_vistadpo", "the released VistaDPO layout"),
    "jsonl": Prepare("datamodules.prepare.own_videos", "prepare_jsonl", "your own videos, annotated in a JSONL file"),
    "preferences": Prepare(
        "datamodules.prepare.preferences",
        "prepare_preferences",
        "preference data in the formats of other suites: ms-swift, LLaMA-Factory, TRL, verl-omni and more",
    ),
    "pairs": Prepare(
        "datamodules.prepare.pairs",
        "prepare_pairs",
        "pairs of generated videos that others compared: VideoAlign, GenAI-Bench, Rapidata and more",
    ),
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
    "join": Prepare("callbacks.writers.join", "join_parts", "join what --part 1/N ... N/N wrote, of `predict`, too"),
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


def main(arguments: list[str]) -> int:
    """Run one kind of preparation: its required parameters by position, the others by name.

    Args:
        arguments: the verb, the source and its options.
    """
    _, *arguments = arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(PREPARE_USAGE.format(sources=table({name: source.summary for name, source in PREPARE.items()})), end="")
        return 0
    name, *flags = arguments
    if name not in PREPARE:
        sys.stderr.write(f"unknown source '{name}'; the sources are {', '.join(PREPARE)} (vidpref prepare --help)\n")
        return 2
    function = function_of(PREPARE[name])
    parser = prepare_parser(name, function)
    options = parser.instantiate(parser.parse_args(spelled_out(flags, parser)))
    options.pop("config", None)
    function(**options)
    return 0


def function_of(source: Prepare) -> Callable[..., Any]:
    """The function behind a kind of preparation."""
    function: Callable[..., Any] = getattr(importlib.import_module(source.module), source.function)
    return function


def prepare_parser(name: str, function: Callable[..., Any], prog: str = "vidpref prepare") -> ArgumentParser:
    """The options of a function: what it requires by position, the rest by name; several paths need no brackets."""
    import docstring_parser
    from jsonargparse import ArgumentParser

    from callbacks.cli.named_items import address_by_name

    import_named_classes(function)
    docstring = docstring_parser.parse(function.__doc__ or "")
    parser = ArgumentParser(prog=f"{prog} {name}", description=docstring.short_description)
    parser.add_argument("--config", action="config", help="a YAML file with these options")
    helps = {parameter.arg_name: parameter.description for parameter in docstring.params}
    # Required lists are added by hand: as positionals of a signature they would need brackets.
    lists: set[str | int] = {
        parameter.name
        for parameter in inspect.signature(function, eval_str=True).parameters.values()
        if parameter.default is inspect.Parameter.empty and parameter.annotation == list[str]
    }
    for parameter_name in sorted(map(str, lists)):
        parser.add_argument(parameter_name, nargs="+", type=str, help=helps.get(parameter_name))
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=lists)
    address_by_name(parser, "filters")
    return parser


def import_named_classes(function: Callable[..., Any]) -> None:
    """Import the classes that the options of a function may name, as filters do; nothing where all are plain values."""
    import typing

    annotations = typing.get_type_hints(function).values()
    parts = [part for hint in annotations for part in (hint, *typing.get_args(hint)) if isinstance(part, type)]
    if any(part.__module__.startswith("datamodules.") for part in parts):
        from callbacks.cli.class_names import import_config_classes

        import_config_classes(("datamodules", "lightning_modules.judges"))


def spelled_out(arguments: list[str], parser: ArgumentParser) -> list[str]:
    """Arguments as the parser takes them, from the way people type: ``--skip-bad`` for ``--skip_bad=true``."""
    switches = {f"--{action.dest}" for action in parser._actions if action.default is False}
    words = []
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            flag = f"--{flag[2:].replace('-', '_')}"
            # The next word is this switch's own value where it is one of the two that a switch has.
            bare = not equals and arguments[position + 1 : position + 2] not in (["true"], ["false"])
            argument = f"{flag}=true" if flag in switches and bare else flag + equals + value
        words.append(argument)
    return words
