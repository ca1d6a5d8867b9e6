"""A command that ends with the process that started it: ``python -m callbacks.cli.recipes.bound PID COMMAND ...``.

A recipe that is killed would otherwise leave its stages running, unseen, and the next start of it would wait for them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: Linux's name for: send this signal to me when my parent ends.
_SIGNAL_AT_PARENTS_END = 1


def end_with(parent: int) -> None:
    """Get SIGTERM when the parent ends; elsewhere than on Linux this process lives on.

    Args:
        parent: its process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_END, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before it was listened for
            raise SystemExit(128 + signal.SIGTERM)


def main() -> None:
    """Become the command, which ends with the process `PID`."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    end_with(parent)
    os.execvp(command[0], command)  # noqa: S606 the command is the recipe's


if __name__ == "__main__":
    main()
