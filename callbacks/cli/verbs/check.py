"""``check``: a run's configuration, data and disk, looked through on any machine."""

from __future__ import annotations

import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callbacks.run_check import RunCheck

USAGE = """usage: vidpref check [fit | validate | test | predict] --config <experiment>.yaml [--config ...] [flags]

Lists what the same `vidpref fit` would stumble over: the configuration, indexes and shard sizes, every text through the
policy's own tokenizer, the adapter's layers, the checkpoint it would go on from, disk space. Of another verb: indexes
or questions and their videos, texts, recorded predictions and replies, where the results go. It reads no weights and
needs no GPU; of the checkpoint's folder, config.json and the tokenizer's and processor's files are enough.
The exit status is 0, or 1 with a list of all faults.
"""
#: What can be checked; the first one where none is named.
VERBS = ("fit", "validate", "test", "predict")
#: So many faults are printed.
_LISTED = 100


def main(arguments: list[str]) -> int:
    """Check a run.

    Args:
        arguments: the verb, and another one with its arguments, or the arguments that `fit` would have.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return 0
    from callbacks.cli.verbs.trainer import quieten

    quieten()
    try:
        check = checked(arguments[1:])
    except SystemExit as end:
        if end.code != 2:
            raise
        return 1  # the parser has listed what is wrong with the configuration
    for fact in check.facts:
        print(fact)
    if not check.faults:
        print("no faults: this run can start")
        return 0
    sys.stdout.flush()
    sys.stderr.write(f"{len(check.faults)} fault{'s' * (len(check.faults) > 1)}:\n")
    sys.stderr.writelines(f"- {fault}\n" for fault in check.faults[:_LISTED])
    if more := len(check.faults) - _LISTED:
        sys.stderr.write(f"... and {more} more\n" if more > 0 else "")
    return 1


def checked(arguments: list[str]) -> RunCheck:
    """The check of the run that `vidpref fit`, or the verb that comes first, would make of these arguments."""
    from callbacks.cli.check_line import CheckLine

    verb = [] if arguments and arguments[0] in VERBS else [VERBS[0]]
    with tempfile.TemporaryDirectory() as scratch:
        return CheckLine([*verb, *arguments], scratch).check
