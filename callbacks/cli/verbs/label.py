"""``label``: the page on which people say which video of a pair is better."""

from __future__ import annotations

from callbacks.cli.verbs.prepare import Prepare, function_of, prepare_parser, spelled_out

# Named, not imported: the demos in benchmarks/toy are recipes of callbacks/cli, and folders import one way.
PAGE = Prepare("benchmarks.labelling.command", "label_pairs", "the labelling page")


def main(arguments: list[str]) -> int:
    """Serve the page until it is ended; see `label_pairs`.

    Args:
        arguments: the verb and its options.
    """
    function = function_of(PAGE)
    parser = prepare_parser("label", function, "vidpref")
    options = parser.instantiate(parser.parse_args(spelled_out(arguments[1:], parser)))
    options.pop("config", None)
    function(**options)
    return 0
