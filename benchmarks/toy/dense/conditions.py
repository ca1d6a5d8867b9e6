"""Conditions under which the motion bias of the DenseDPO paper can show: checked on pairs before anything is trained.

    python -m benchmarks.toy.dense.conditions INDEPENDENT.index.json GUIDED.index.json

Vanilla DPO loses motion where independent samples of one prompt differ in motion (C1), artifacts grow with motion (C2),
and so the preferred one is stiller (C3). Guided pairs take the bias away where they share their motion (C4), and labels
for every second add to whole ones where seconds are decided by themselves (C5). A study without these conditions proves
nothing, whichever way it comes out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from benchmarks.report.tables import Cell, Row, Table
from benchmarks.toy.dense.pair_measures import PairMeasures, measured_pairs

#: A lead in quality up to which a video or a second is a tie; that of configs/toy/wan_labels.yaml.
MARGIN = 0.005


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of the table.

    Attributes:
        name: "C1" to "C5".
        text: what is measured.
        value: measured here.
        bound: what it must be, in words.
        holds: whether it is.
        paper: what the paper reports, "" = nothing.
    """

    name: str
    text: str
    value: float
    bound: str
    holds: bool
    paper: str = ""


def motion_conditions(independent: PairMeasures, guided: PairMeasures, margin: float = MARGIN) -> list[Condition]:
    """The conditions, C1 to C5.

    Args:
        independent: pairs of two samples of one prompt, each from its own noise.
        guided: pairs of two samples from one real video.
        margin: a lead in quality up to which a second is a tie.
    """
    conditions = [_below("C1", "independent pairs: correlation of their motions", shared_motion(independent), 0.3)]
    slow, fast = _artifacts_of_halves(independent)
    rise = fast / slow - 1
    conditions.append(
        Condition(
            "C2", "independent pairs: artifacts of the faster half over the slower, less 1", rise, "> 0", rise > 0
        )
    )
    bias = preferred_motion(independent)
    conditions.append(
        Condition("C3", "independent pairs: motion, chosen minus rejected, in sd", bias, "< -0.2", bias < -0.2)
    )
    shared = shared_motion(guided)
    conditions.append(Condition("C4", "guided pairs: correlation of their motions", shared, "> 0.8", shared > 0.8))
    left = preferred_motion(guided)
    conditions.append(
        Condition("C4", "guided pairs: motion, chosen minus rejected, in sd", left, "|.| < 0.1", abs(left) < 0.1)
    )
    conditions.append(_below("C5", "guided pairs: correlation of two seconds' leads", _seconds_correlated(guided), 0.2))
    _, decided, both = decided_shares(guided, margin)
    conditions += [
        Condition("C5", "guided pairs: share with a decided second", decided, "> 0.8", decided > 0.8, "> 0.8"),
        Condition("C5", "guided pairs: share with seconds won by either", both, "> 0.4", both > 0.4, "> 0.6"),
    ]
    return conditions


def decided_shares(guided: PairMeasures, margin: float) -> tuple[float, float, float]:
    """The shares of pairs that are decided as a whole, that have a decided second, and seconds won by either video."""
    signs = np.where(abs(guided.leads) > margin, np.sign(guided.leads), 0)
    whole = float((abs(guided.whole[:, 0] - guided.whole[:, 1]) > margin).mean())
    decided = float((signs != 0).any(axis=1).mean())
    both = float(((signs > 0).any(axis=1) & (signs < 0).any(axis=1)).mean())
    return whole, decided, both


def conditions_table(conditions: Sequence[Condition]) -> Table:
    """The conditions with their bounds, and the paper's own figures beside them."""
    rows = [
        Row(
            f"{item.name} {item.text}",
            "",
            [Cell(f"{item.value:.2f}"), Cell(item.bound), Cell("yes" if item.holds else "NO"), Cell(item.paper)],
        )
        for item in conditions
    ]
    return Table(("condition", "here", "bound", "holds", "paper"), rows)


def _below(name: str, text: str, value: float, bound: float) -> Condition:
    return Condition(name, text, value, f"< {bound:g}", value < bound)


def shared_motion(pairs: PairMeasures) -> float:
    """Correlation of the motions of a pair's two videos."""
    return float(np.corrcoef(pairs.speeds[:, 0], pairs.speeds[:, 1])[0, 1])


def _artifacts_of_halves(pairs: PairMeasures) -> tuple[float, float]:
    """Mean artifact of the slower and of the faster half of all videos."""
    speeds, artifacts = pairs.speeds.ravel(), 1 - pairs.whole.ravel()
    fast = speeds > np.median(speeds)
    return float(artifacts[~fast].mean()), float(artifacts[fast].mean())


def preferred_motion(pairs: PairMeasures) -> float:
    """Mean motion of the video of higher quality minus that of the other, in standard deviations of all motions."""
    ahead = np.sign(pairs.whole[:, 0] - pairs.whole[:, 1])
    return float((ahead * (pairs.speeds[:, 0] - pairs.speeds[:, 1])).mean() / pairs.speeds.std(ddof=1))


def _seconds_correlated(pairs: PairMeasures) -> float:
    """Mean correlation, over pairs of videos, of the leads of two different seconds."""
    count = pairs.leads.shape[1]
    return float((np.sum(np.corrcoef(pairs.leads.T)) - count) / (count * (count - 1)))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; the exit status is 1 when a condition does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.toy.dense.conditions", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("independent", help="index of independent pairs")
    parser.add_argument("guided", help="index of guided pairs")
    parser.add_argument("--margin", type=float, default=MARGIN, help=f"lead in quality up to a tie ({MARGIN})")
    parser.add_argument("--limit", type=int, help="only so many pairs of each file, the first ones")
    parser.add_argument("--checkpoint", help="decode the latents with this autoencoder; without, mp4s are read")
    options = parser.parse_args(argv)
    try:
        measured = [
            measured_pairs(path, options.limit, options.checkpoint) for path in (options.independent, options.guided)
        ]
    except ValueError as error:
        parser.error(str(error))
    conditions = motion_conditions(measured[0], measured[1], options.margin)
    conditions_table(conditions).show(Console())
    return 0 if all(item.holds for item in conditions) else 1


if __name__ == "__main__":
    sys.exit(main())
