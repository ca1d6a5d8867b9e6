"""The command: ``vidpref {fit,validate,test,predict}`` on YAML files, ``vidpref prepare`` for data, and more verbs."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from callbacks.cli.verbs import VERBS, table

# What trains is imported only when a verb needs it, so that every --help answers at once.

USAGE = """usage: vidpref [--debug] <verb> [options]
       vidpref <verb> --help
       vidpref --version

Train video models on preferences, and measure what that did.

{verbs}

A run is a YAML file and flags over it; later ones win, and `callbacks+:` adds to a list:
  vidpref prepare toy --help
  vidpref fit --config configs/vista_dpo/video_llava_lora.yaml --data.train my-shards/train.index.json
  vidpref fit --config <experiment>.yaml --config configs/strategy/fsdp.yaml --model.beta 0.2
  vidpref fit --config <experiment>.yaml --trainer.callbacks.AdapterExport.every_n_steps 500
  vidpref fit --config <experiment>.yaml --print_config

--debug, or VIDPREF_DEBUG=1 in the environment, shows the traceback of an error.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for an error in the input or the run, 2 for one in the command.

    Args:
        argv: the arguments after the program's name; None = those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--debug" in arguments:
        arguments = [argument for argument in arguments if argument != "--debug"]
        os.environ["VIDPREF_DEBUG"] = "1"  # for the processes that a strategy starts, too
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        # Without a verb too: somebody who types the bare name wants to know what there is.
        print(USAGE.format(verbs=table({name: verb.summary for name, verb in VERBS.items()})), end="")
        return 0
    name = arguments[0]
    if name == "--version":
        print(f"vidpref {version('vidpref')}")
        return 0
    if name not in VERBS:
        sys.stderr.write(f"unknown verb '{name}'; the verbs are {', '.join(VERBS)} (vidpref --help)\n")
        return 2
    try:
        status: int = importlib.import_module(VERBS[name].module).main(arguments)
        return status
    except Exception as error:
        report_error(error, arguments[1:])
        return 1


def report_error(error: Exception, arguments: Sequence[str]) -> None:
    """Write to the error stream what went wrong: one line where the message speaks to the user, else a traceback.

    Args:
        error: what ended the command.
        arguments: the arguments after the verb, among which is the setting that names a file.
    """
    from callbacks.cli.config_errors import error_message
    from callbacks.cli.file_errors import file_fault

    fault = file_fault(error, arguments)
    # "0" counts as unset: it is what people write to switch a variable off.
    if os.environ.get("VIDPREF_DEBUG", "0") not in ("", "0") or not (fault or is_readable(error)):
        traceback.print_exc()
        return
    # Lightning starts the other ranks as commands of their own, whose lines are mixed on one terminal.
    rank = os.environ.get("LOCAL_RANK", "0")
    process = "" if rank == "0" else f" (process {rank})"
    sys.stderr.write(f"error{process}: {fault or error_message(error)}\n(--debug shows where in the code)\n")


def is_readable(error: Exception) -> bool:
    """Whether an error's message speaks to the user; that of any other error needs its traceback."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from callbacks.cli.lost_processes import LostProcessError

    return isinstance(error, ValueError | OSError | FloatingPointError | MisconfigurationException | LostProcessError)


if __name__ == "__main__":
    sys.exit(main())
