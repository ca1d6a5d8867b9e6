"""Does vanilla DPO lose motion, and do guided pairs with a label a second keep it? DenseDPO's study on a toy world.

    python -m benchmarks.toy.study_dense --output runs/study-dense

Pairs are made once from the same real videos, and labelled by the toy world's judge, which knows the truth and is blind
to motion. Then the conditions C1 to C5 are checked (`motion_conditions`); where one fails, that is the result, and
nothing is fitted. Every method's learning rate is chosen on a validation seed (`rates`) and written down before the
first fit of a test seed. What is done is passed over, so that the same command goes on after an interruption.

`--rows NAME` runs an ablation or an open question (`dense_rows`) in the same folder; `--quick` checks the conditions on
the pairs that are shipped, and runs every kind of stage once, far too small to say anything of an order.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.base.results import write_json
from benchmarks.toy.commands import ROOT, from_root
from benchmarks.toy.dense_methods import CONTROLS, METHODS, DenseStages, Size
from benchmarks.toy.dense_page import dense_page, quick_page
from benchmarks.toy.dense_rows import ROWS, run_rows
from benchmarks.toy.dense_study import MARGINS, DenseStudy, versions
from benchmarks.toy.motion_conditions import Condition, conditions_table, decided_shares, motion_conditions
from benchmarks.toy.pair_measures import measured_pairs
from benchmarks.toy.rates import CRITERION, GRID, VALIDATION_SEED
from callbacks.cli.recipes.runner import exit_status

SEEDS = (0, 1, 2)
#: Of everything just enough to run.
QUICK = Size(pairs=16, samples=1, steps=2, prompts=4)
#: One method of each kind of data, and the control that makes labels of its own.
QUICK_METHODS = ("sft", "vanilla", "structural", "dense", "vanilla-matched")
SHIPPED = ROOT / "datamodules" / "toy_world" / "pairs"
CHECKPOINT = ROOT / "datamodules" / "toy_world" / "checkpoints" / "wan"
#: Pairs of each kind that the conditions of `--quick` are measured on.
SHIPPED_PAIRS = 64


def run_core(study: DenseStudy, seeds: Sequence[int]) -> None:
    """The core table: conditions, learning rates, methods and controls on the test seeds.

    Args:
        study: in its folder.
        seeds: test seeds.
    """
    started = time.time()
    output = study.make.output
    plan = {"grid": GRID, "criterion": CRITERION, "validation_seed": VALIDATION_SEED, "seeds": list(seeds)}
    # Written first, so that nothing that comes out can change it.
    record: dict[str, Any] = {"plan": plan, "size": asdict(study.make.size), "versions": versions()}
    write_json(output / "study.json", record)
    study.run(study.make.data(METHODS), "Pairs and labels")
    conditions = study.conditions("vanilla", "structural")
    record["conditions"] = [asdict(condition) for condition in conditions]
    record["margins"] = study.margins("structural")
    write_json(output / "study.json", record)
    if failed := [condition for condition in conditions if not condition.holds]:
        study.console.print(f"{len(failed)} conditions fail: nothing is fitted, and that is the result")
        _finish(study, record, started)
        return
    tuning = study.tuned(METHODS)
    record["tuning"] = tuning.json()
    rates = dict(tuning.best) | {name: tuning.best[method.rate_of] for name, method in CONTROLS.items()}
    write_json(output / "study.json", record)
    study.run(list(study.make.labels(CONTROLS)), "Labels of the controls")
    methods = {**METHODS, **CONTROLS}
    record["runs"] = study.record(methods, rates, seeds)
    _finish(study, record, started)


def _finish(study: DenseStudy, record: dict[str, Any], started: float) -> None:
    """Write the record with commands and times, and the page's part."""
    record["commands"] = study.commands
    record["seconds"] = {name: round(seconds, 1) for name, seconds in study.seconds.items()}
    record["minutes"] = {
        "stages, one after the other": round(sum(study.seconds.values()) / 60, 1),
        "this run": round((time.time() - started) / 60, 1),
    }
    output = study.make.output
    write_json(output / "study.json", record)
    page = dense_page(record, output, {f"dense-{name}": rows.title for name, rows in ROWS.items()})
    (output / "study.md").write_text(page.markdown(), encoding="utf-8")
    study.console.print(page.markdown(), markup=False)
    study.console.print(f"part of the results page: {page.write(output, 'dense')}")


def run_quick(study: DenseStudy, seed: int = 0) -> list[Condition]:
    """Conditions on the shipped pairs, and every kind of stage once.

    Returns:
        the conditions.
    """
    measures = [
        measured_pairs(SHIPPED / f"{name}.index.json", SHIPPED_PAIRS, CHECKPOINT) for name in ("independent", "train")
    ]
    conditions = motion_conditions(measures[0], measures[1])
    conditions_table(conditions).show(study.console)
    shares = {f"{margin:g}": decided_shares(measures[1], margin) for margin in MARGINS}
    quick_page([asdict(condition) for condition in conditions], shares, SHIPPED_PAIRS).write(
        study.make.output, "dense-pairs"
    )
    methods = {name: {**METHODS, **CONTROLS}[name] for name in QUICK_METHODS}
    study.run(study.make.data(methods), "Pairs and labels")
    study.tested(methods, dict.fromkeys(methods, GRID[0]), [seed])
    return conditions


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line; the exit status is 1 when a stage failed, or a condition of `--quick`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.toy.study_dense", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--output", type=Path, default=Path("runs/study-dense"), help="the study's folder; it goes on")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of training and sampling")
    parser.add_argument("--jobs", type=int, default=2, help="stages that run side by side (2), one thread each")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--rows", choices=sorted(ROWS), help="an ablation or open question instead of the core table")
    what.add_argument("--quick", action="store_true", help="conditions on shipped pairs, every stage once")
    options = parser.parse_args(argv)
    output = from_root(options.output)

    def run() -> None:
        if options.quick:
            study = DenseStudy(DenseStages(output, QUICK), options.jobs)
            if failed := [item.name for item in run_quick(study) if not item.holds]:
                raise ValueError(f"conditions {', '.join(failed)} do not hold on the shipped pairs")
        elif options.rows:
            run_rows(options.rows, output, Size(), options.seeds, options.jobs)
        else:
            run_core(DenseStudy(DenseStages(output, Size()), options.jobs), options.seeds)

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
