"""Which data sets of a run hold other samples than when its checkpoint was written, and where it goes on with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datamodules.shards.index import Index
from datamodules.stream.plan import TrainPlan


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
    known, current = set(before.values()), set(now.values())
    changed = [path for path, fingerprint in now.items() if fingerprint not in known]
    lines = [f"{path} holds other samples" if path in before else f"{path} is new" for path in changed]
    lines += [
        f"{path} is no longer given"
        for path, fingerprint in before.items()
        if fingerprint not in current and path not in changed
    ]
    return lines or [f"they are given in another order, {', '.join(now)} in place of {', '.join(before)}"]


def moved(state: Mapping[str, Any], plan: TrainPlan, index: Index) -> tuple[dict[str, Any], str]:
    """A saved state for other samples than those that it was written with, and a sentence that says where it is.

    As many samples as before: the order is the same, and the run goes on at the next sample. Another number: epochs
    that are over stay over, and of the one under way the same share is over, in the order of the present samples.

    Args:
        state: what `PlanLoader.progress` returned, at the end of an optimizer step.
        plan: of this run.
        index: of the present samples.

    Returns:
        The state, with the present fingerprint and filter, and without bad samples that are gone.
    """
    # "NUMBER:HASH", see `TrainPlan.identity`.
    before, now, consumed = int(state["kept"].split(":")[0]), len(plan.kept), state["consumed"]
    epoch, done = divmod(consumed, before)
    place = done * now // before
    bad = {key: why for key, why in state["bad_samples"].items() if key in index.positions}
    kept = plan.identity()["kept"]
    state = {**state, "fingerprint": index.fingerprint, "kept": kept, "bad_samples": bad}
    if before == now:
        return state, f"The run goes on with sample {done + 1} of {now} of epoch {epoch}, as it would have before"
    consumed = epoch * now + place
    # Steps are counted from here: those before were of other samples.
    state |= {"consumed": consumed, "origin": consumed}
    return state, (
        f"The run was at {done} of {before} samples of epoch {epoch} and goes on at {place} of {now}: of this epoch, "
        "some samples may be read twice and others not at all; every later one has each sample once"
    )
