"""The command line up to the point where something would be made: whether a verb's configuration is accepted."""

from __future__ import annotations

from typing import Any, ClassVar

from callbacks.cli.command_line import VidprefCLI


class ParseLine(VidprefCLI):
    """The command, with only the parser of its verb, which makes and runs nothing; `config` is what was parsed.

    Args:
        arguments: one of the trainer's verbs, and its options.
    """

    #: Verb -> the attributes that `setup_parser` sets; to make them is half the time of parsing.
    _parsers: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, arguments: list[str]) -> None:
        self._verb = arguments[0]
        super().__init__(arguments)

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Set up the verb's parser once: parsing changes nothing in it."""
        if self._verb not in self._parsers:
            super().setup_parser(*args, **kwargs)
            names = ("parser", "_subcommand_parsers", "_subcommand_method_arguments")
            self._parsers[self._verb] = {name: getattr(self, name) for name in names}
        vars(self).update(self._parsers[self._verb])

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that is parsed."""
        return {self._verb: super().subcommands()[self._verb]}

    def instantiate_classes(self) -> None:
        """Make nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""
