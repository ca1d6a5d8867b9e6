"""Ablations of DenseDPO and the paper's open questions, each by name in the study's folder.

    python -m benchmarks.toy.study_dense --output runs/study-dense --rows NAME

Rows are run after the core table, whose conditions, learning rates and runs they take: only what is marked as tuned
itself has a grid of its own. Each prints how long it took; the page lists those that were not run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base.results import write_json
from benchmarks.toy.dense.conditions import MARGIN, decided_shares, preferred_motion, shared_motion
from benchmarks.toy.dense.methods import METHODS, PAIRS, SECONDS, Method, Pairs, Size
from benchmarks.toy.dense.page import rows_page
from benchmarks.toy.dense.pair_measures import PairMeasures
from benchmarks.toy.dense.stages import DenseStages
from benchmarks.toy.dense.study import CRITERION, PACKAGES, DenseStudy
from benchmarks.toy.rates import VALIDATION_SEED
from benchmarks.toy.study import RECORD, versions
from datamodules.prepare.toy_videos import scene_of

#: The thresholds are about the 10th and the 90th percentile of the real videos' optical flow.
ADAPTIVE = (
    '{"class_path": "MotionAdaptiveEta", "init_args": {"flow": {"class_path": "DisFlow"}, '
    '"slow": 0.85, "fast": 0.65, "slow_motion": 0.02, "fast_motion": 0.2}}'
)
#: A quarter of the pairs with a label a second: as many labels as the core table's whole videos have.
QUARTER = 0.25
#: Lengths of videos, in seconds.
LENGTHS = (SECONDS, 8, 16)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of an ablation or open question.

    Attributes:
        title: its heading.
        methods: run -> method.
        kinds: pairs of its own.
        grid: learning rates to try for the methods that are tuned themselves; () = none is.
    """

    title: str
    methods: Mapping[str, Method]
    kinds: Mapping[str, Pairs] = field(default_factory=dict)
    grid: Sequence[float] = ()


def _eta_kinds() -> dict[str, Pairs]:
    fixed = {f"eta-{eta:g}": Pairs(f"{eta:g}", share=QUARTER) for eta in (0.5, 0.65, 0.75, 0.85, 0.95)}
    return {**fixed, "eta-paper": Pairs(share=QUARTER), "eta-motion": Pairs(ADAPTIVE, share=QUARTER)}


_ETA_TITLES = {"eta-paper": "eta drawn from 0.65 to 0.8", "eta-motion": "MotionAdaptiveEta, 0.85 slow to 0.65 fast"}
_ETA = {
    name: Method(_ETA_TITLES.get(name, f"eta {kind.eta}"), name, rate_of="dense") for name, kind in _eta_kinds().items()
}


def _longer() -> dict[str, Method]:
    """DenseDPO at each length, and random signs where the core table has none."""
    methods = {}
    for seconds in LENGTHS:
        name = f"seconds-{seconds}"
        methods[name] = Method(f"DenseDPO, {seconds} s", name, rate_of="dense")
        if seconds != SECONDS:
            title = f"DenseDPO, {seconds} s, random signs"
            methods[f"{name}-random"] = Method(title, name, flip=0.5, rate_of="dense")
    return methods


ROWS: Mapping[str, Rows] = {
    "segment-length": Rows(
        "Segment length, all pairs",
        {
            "segment-half": Method("half a second", labels="half", rate_of="dense-all"),
            "segment-one": Method("one second", same_as="dense-all"),
            "segment-two": Method("two seconds", labels="two", rate_of="dense-all"),
            "segment-whole": Method("the whole video", labels="whole", same_as="structural"),
        },
    ),
    "label-noise": Rows(
        "Labels turned round",
        {
            f"noise-{name}-{flip:g}": replace(
                METHODS[name],
                title=f"{METHODS[name].title}, {flip:.0%} turned",
                flip=flip,
                rate_of=name,
                same_as="" if flip else name,
            )
            for name in ("vanilla", "dense")
            for flip in (0.0, 0.1, 0.2, 0.4)
        },
    ),
    "eta": Rows("The noise level of guided pairs", _ETA, _eta_kinds()),
    "full": Rows(
        "The whole transformer against LoRA, equal data, rates chosen for each",
        {
            "full-dense": Method("DenseDPO, whole transformer", share=QUARTER, full=True),
            "lora-dense": Method("DenseDPO, LoRA", share=QUARTER),
        },
        grid=(3e-6, 1e-5, 3e-5, 1e-4, 3e-4),
    ),
    "longer": Rows(
        "Longer videos, a label a second",
        _longer(),
        {f"seconds-{seconds}": Pairs(seconds=seconds, share=QUARTER) for seconds in LENGTHS},
    ),
    "longer-rates": Rows(
        "Videos of 16 seconds, a label a second against one a video, rates chosen for each",
        {
            "seconds-16": Method("DenseDPO, 16 s", "seconds-16"),
            "seconds-16-whole": Method("structural DPO, 16 s", "seconds-16", "whole"),
        },
        {"seconds-16": Pairs(seconds=16, share=QUARTER)},
        grid=(1e-4, 3e-4, 1e-3),
    ),
}


def run_rows(name: str, output: Path, size: Size, seeds: Sequence[int], jobs: int) -> None:
    """Run an ablation or open question; writes `rows-NAME.json` and the page's part.

    Args:
        name: of `ROWS`.
        output: the study's folder.
        size: the core table's.
        seeds: test seeds.
        jobs: stages side by side.

    Raises:
        ValueError: the core table is not done yet, or its conditions fail.
    """
    started = time.time()
    rows, core = ROWS[name], core_record(output)
    study = DenseStudy(DenseStages(output, size, {**PAIRS, **rows.kinds}), jobs)
    fitted = {run: method for run, method in rows.methods.items() if not method.same_as}
    study.run(study.make.data(fitted), f"{rows.title}: pairs and labels")
    record: dict[str, Any] = {
        "title": rows.title,
        "size": asdict(size),
        "versions": versions(*PACKAGES),
        "plan": {"criterion": CRITERION, "validation_seed": VALIDATION_SEED, "seeds": list(seeds), "grid": rows.grid},
        "pairs": {part: values for kind in rows.kinds for part, values in described_pairs(study, kind).items()},
    }
    chosen = {run: core["tuning"]["best"][method.rate_of] for run, method in fitted.items() if method.rate_of}
    if own := {run: method for run, method in fitted.items() if not method.rate_of}:
        tuning = study.tuned(own, rows.grid)
        record["tuning"] = tuning.json()
        chosen |= tuning.best
    write_json(output / f"rows-{name}.json", record)
    record["runs"] = in_order(rows.methods, study.record(fitted, chosen, seeds), core["runs"])
    record |= study.timed(started)
    write_json(output / f"rows-{name}.json", record)
    page = rows_page(name, record, output)
    written = page.write(output, f"dense-{name}")
    study.console.print(page.markdown(), markup=False)
    study.console.print(f"{name}: part of the results page: {written}")


def core_record(output: Path) -> dict[str, Any]:
    """What the core table wrote.

    Raises:
        ValueError: it is not done, or nothing was fitted, as its conditions fail.
    """
    path = output / RECORD
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if failed := [item["name"] for item in record.get("conditions", []) if not item["holds"]]:
        raise ValueError(f"{path}: conditions {', '.join(failed)} fail, and nothing is fitted in this world")
    if "runs" not in record:
        raise ValueError(f"{path} has no runs; let the core table come to its end first, without --rows")
    return record


def in_order(methods: Mapping[str, Method], made: Mapping[str, Any], core: Mapping[str, Any]) -> dict[str, Any]:
    """Runs in the order of a table: base models, then each method's, which the core table may have made.

    Args:
        methods: run -> method.
        made: the runs with a fit of their own, and base models.
        core: the core table's runs.
    """
    runs = {run: content for run, content in made.items() if run not in methods}
    for run, method in methods.items():
        runs[run] = made[run] if run in made else {**core[method.same_as], "title": method.title}
    return runs


def described_pairs(study: DenseStudy, kind: str) -> dict[str, dict[str, float]]:
    """What a kind of pairs is like: motion that is shared and preferred, and shares of decided pairs.

    Returns:
        the kind, and its halves by the real videos' speed -> name of a number -> the number.
    """
    measures = PairMeasures.read(study.make.measures(kind))
    real = np.array([scene_of(key, study.make.kinds[kind].seconds).speed for key in measures.keys])
    slow = real <= np.median(real)
    described = {}
    for part, selected in (("", slow | ~slow), (", slow half", slow), (", fast half", ~slow)):
        pairs = measures.of(selected)
        whole, decided, both = decided_shares(pairs, MARGIN)
        described[f"{kind}{part}"] = {
            "motion": float(pairs.speeds.mean()),
            "real motion": float(real[selected].mean()),
            "r of motions": shared_motion(pairs),
            "chosen minus rejected, sd": preferred_motion(pairs),
            "whole decided": whole,
            "a second decided": decided,
            "won by either": both,
        }
    return described
