"""Errors that a data loader raises, without the wait that a loader left with a running worker costs."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, Dataset


def loader_error(dataset: Dataset[Any], num_workers: int) -> Exception:
    """The first error of a loader, of which at least one sample fails.

    The loader is read to its end, which ends its workers: torch waits five seconds for a worker when an iterator is
    dropped in the middle, and in a test that is whenever the next garbage collection comes.

    Args:
        dataset: raises from `__getitem__`.
        num_workers: of the loader.
    """
    batches, failures = iter(DataLoader(dataset, num_workers=num_workers)), list[Exception]()
    while True:
        try:
            next(batches)
        except StopIteration:
            return failures[0]
        except Exception as error:
            failures.append(error)
