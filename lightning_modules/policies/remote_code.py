"""Checkpoints that bring code of their own, which is never run."""

from __future__ import annotations


def load_failure(error: Exception) -> str:
    """Why a checkpoint cannot be loaded; transformers would advise an option that there is not."""
    if "trust_remote_code" in str(error):
        return "it needs code that comes with it, and such code is never run; give a checkpoint of a known model type"
    return str(error)
