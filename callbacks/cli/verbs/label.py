"""``label``: the page on which people say which video of a pair is better."""

from __future__ import annotations

from benchmarks.labelling.command import label_pairs
from callbacks.cli.verbs.prepare import prepare_parser, spelled_out


def main(arguments: list[str]) -> int:
    """Serve the page until it is ended; see `label_pairs`.

    Args:
        arguments: the verb and its options.
    """
    parser = prepare_parser("label", label_pairs, "vidpref")
    options = parser.instantiate(parser.parse_args(spelled_out(arguments[1:], parser)))
    options.pop("config", None)
    label_pairs(**options)
    return 0
