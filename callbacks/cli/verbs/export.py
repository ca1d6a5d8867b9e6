"""``export``: an export made of a checkpoint of a run."""

from __future__ import annotations

from callbacks.cli.verbs.prepare import prepare_parser, spelled_out


def main(arguments: list[str]) -> int:
    """Write what a checkpoint of a run holds; see `export_run`.

    Args:
        arguments: the verb and its options.
    """
    from callbacks.export_run import export_run

    parser = prepare_parser("export", export_run, "vidpref")
    options = parser.instantiate(parser.parse_args(spelled_out(arguments[1:], parser)))
    options.pop("config", None)
    export_run(**options)
    return 0
