"""Checkpoints that bring code of their own, which is never run."""

from __future__ import annotations

import re

_REPOSITORY = re.compile(r"The repository (?:for )?(\S+) contains custom code")


def load_failure(error: Exception) -> str:
    """Why a checkpoint cannot be loaded, in one line; transformers would advise an option that there is not."""
    return " ".join(without_advice(str(error)).split())


def without_advice(message: str) -> str:
    """An error's message, or where it advises to run a checkpoint's own code, that such code is never run."""
    if "trust_remote_code" not in message:
        return message
    repository = _REPOSITORY.search(message)
    which = "it" if repository is None else repository[1]
    return f"{which} needs code that comes with it, and such code is never run; give a checkpoint of a known model type"
