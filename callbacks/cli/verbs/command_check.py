"""Whether a command would be accepted, from its words alone: each verb's own parser, without data or weights."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from callbacks.cli.verbs.check import VERBS as TRAINER_VERBS

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def check_command(command: Sequence[str]) -> None:
    """Let the verb's parser read a command.

    Args:
        command: the verb and its options, or ``python -m MODULE ...``, of which the module is looked up.

    Raises:
        ValueError: what the parser says.
    """
    verb, *words = command
    if verb == "python":
        if words[:1] == ["-m"] and not _is_module(words[1:2]):
            raise ValueError(f"there is no module {' '.join(words[1:2])}")
        return
    if verb == "check":  # of the verb that comes next, or of a fit
        verb, *words = words if words and words[0] in TRAINER_VERBS else [TRAINER_VERBS[0], *words]
    if verb in TRAINER_VERBS:  # before its parser is listened to: some libraries speak when they are imported
        from callbacks.cli.class_names import import_config_classes

        import_config_classes()
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            _parse(verb, words)
    except SystemExit as error:
        if error.code:
            raise ValueError(said.getvalue().strip()) from error


def _parse(verb: str, words: list[str]) -> None:
    if verb in TRAINER_VERBS:
        from callbacks.cli.parse_line import ParseLine

        ParseLine([verb, *words])
    elif verb == "estimate":  # its own options, and those of a fit
        from callbacks.cli.class_names import import_config_classes
        from callbacks.cli.parse_line import ParseLine
        from callbacks.cli.verbs.estimate import estimate_parser

        import_config_classes()
        ParseLine(["fit", *estimate_parser().parse_known_args(words)[1]])
    elif verb == "ask":
        from callbacks.cli.verbs.ask import ask_parser

        ask_parser().parse_args(words)
    else:
        from callbacks.cli.verbs.prepare import spelled_out

        parser, words = _function_parser(verb, words)
        parser.parse_args(spelled_out(words, parser))


def _function_parser(verb: str, words: list[str]) -> tuple[ArgumentParser, list[str]]:
    """The parser of a verb whose options are the parameters of a function, and the words that it reads."""
    from callbacks.cli.verbs.label import PAGE
    from callbacks.cli.verbs.prepare import PREPARE, function_of, prepare_parser

    if verb == "prepare":
        if not words or words[0] not in PREPARE:
            raise ValueError(f"unknown source '{' '.join(words[:1])}'; the sources are {', '.join(PREPARE)}")
        return prepare_parser(words[0], function_of(PREPARE[words[0]])), words[1:]
    if verb == "label":
        return prepare_parser(verb, function_of(PAGE), "vidpref"), words
    from callbacks.export_run import export_run

    return prepare_parser(verb, export_run, "vidpref"), words


def _is_module(names: list[str]) -> bool:
    try:
        return bool(names) and importlib.util.find_spec(names[0]) is not None
    except ModuleNotFoundError:
        return False
