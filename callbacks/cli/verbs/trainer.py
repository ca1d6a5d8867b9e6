"""``fit``, ``validate``, ``test`` and ``predict``: the verbs that Lightning's trainer runs."""

from __future__ import annotations

import logging
import warnings


def main(arguments: list[str]) -> int:
    """Hand a verb to Lightning.

    Args:
        arguments: the verb and its options.
    """
    from callbacks.cli.command_line import VidprefCLI

    quieten()
    VidprefCLI(arguments)
    leave_process_group()
    return 0


def leave_process_group() -> None:
    """End the process group in order: left to the interpreter's end, a group whose peer is gone can crash."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def quieten() -> None:
    """Leave out what Lightning says that no user of this command can act on."""
    from callbacks.cli.lost_processes import ObserverFilter

    # Both are how `ckpt_path: last` works: nothing to restore at the first start, files there at the next.
    warnings.filterwarnings("ignore", message=".*there is no last checkpoint available.*")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty.*")
    # The recovery checkpoint of version 0.1.0 was written by another callback, whose state is not needed.
    former = r"ModelCheckpoint\{'monitor': None, 'mode': 'min', 'every_n_train_steps': 100, [^}]*\}"
    warnings.filterwarnings("ignore", message=rf".*Please add the following callbacks: \[\"{former}\"\]")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated.*")  # Lightning's own use of torch
    # No validation data is a choice, and so is a run shorter than the interval of logging.
    warnings.filterwarnings("ignore", message="Total length of .* across ranks is zero.*")
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    # The state of our loaders is kept by the data module, where Lightning does not look.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # Video-LLaVA's processor of single pictures exists for PIL alone.
    logging.getLogger("transformers.models.auto.image_processing_auto").addFilter(
        lambda record: "backend is not available" not in record.getMessage()
    )
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").addFilter(ObserverFilter())
    # An advertisement for a logger, and a step of the set-up.
    unhelpful = ("Tip:", "to estimate number of stepping batches")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not any(text in str(record.msg) for text in unhelpful)
    )
