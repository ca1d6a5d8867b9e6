"""Which of the data sets of a run hold other samples than when its checkpoint was written."""

from __future__ import annotations

from collections.abc import Mapping


def content_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """One line for each data set that differs; where only their order does, one that says so.

    Args:
        before: index file -> its fingerprint, when the checkpoint was written, in order; empty = it was not recorded.
        now: likewise, as given to this run.
    """
    if not before:
        which = " or ".join(now)
        return [f"{which} holds other samples"]
    # A file that was moved or renamed is the same data set.
    known, left = set(before.values()), set(now.values())
    other = [path for path, fingerprint in now.items() if fingerprint not in known]
    lines = [f"{path} holds other samples" if path in before else f"{path} is new" for path in other]
    lines += [
        f"{path} is no longer given"
        for path, fingerprint in before.items()
        if fingerprint not in left and path not in other
    ]
    return lines or [f"they are given in another order, {', '.join(now)} in place of {', '.join(before)}"]
