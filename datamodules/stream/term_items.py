"""Lines for the start of a run: how many items each loss term has in each of its data sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from datamodules.stream.plan import ItemCounts, Positions


def item_lines(
    data_sets: Mapping[str, int], terms: Mapping[str, ItemCounts], keep: Positions | None, active: Collection[str]
) -> list[str]:
    """One line for each data set: its samples, and the items of every term in use.

    Args:
        data_sets: what each is called -> its number of samples, in the order in which the terms count them.
        terms: term -> (N,) bool or integers, how many of its items each sample has.
        keep: the positions that are read; None = all.
        active: the terms in use.
    """
    total = sum(data_sets.values())
    read = np.ones(total, dtype=np.bool_) if keep is None else np.isin(np.arange(total), keep)
    lines: list[str] = []
    start = 0  # of a data set, in the positions of all of them joined
    for path, count in data_sets.items():
        part = slice(start, start + count)
        start += count
        items = [f"{name} {int(np.asarray(terms[name])[part][read[part]].sum())}" for name in active if name in terms]
        taken = int(read[part].sum())
        samples = f"{count} samples" if taken == count else f"{taken} of {count} samples"
        lines.append(f"{path}: {samples}: {', '.join(items)}")
    return lines
