"""Does vanilla DPO lose motion, and do guided pairs with a label a second keep it? DenseDPO's study on a toy world.

    python -m benchmarks.toy.study_dense --output runs/study-dense

Pairs are made once from the same real videos, and labelled by the toy world's judge, which knows the truth and is blind
to motion. Then the conditions C1 to C5 are checked (`dense.conditions`); where one fails, that is the result, and
nothing is fitted. Every method's learning rate is chosen on a validation seed (`rates`) and written down before the
first fit of a test seed. What is done is passed over, so that the same command goes on after an interruption.

`--rows NAME` runs an ablation or an open question (`dense.rows`) in the same folder; `--quick` checks the conditions on
the pairs that are shipped, and runs every kind of stage once, far too small to say anything of an order.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.base.results import write_json
from benchmarks.toy.commands import ROOT, from_root
from benchmarks.toy.dense.conditions import Condition, conditions_table, decided_shares, motion_conditions
from benchmarks.toy.dense.methods import CONTROLS, METHODS, Size
from benchmarks.toy.dense.page import dense_page, quick_page
from benchmarks.toy.dense.pair_measures import measured_pairs
from benchmarks.toy.dense.rows import ROWS, run_rows
from benchmarks.toy.dense.stages import DenseStages
from benchmarks.toy.dense.study import CRITERION, GRID, MARGINS, PACKAGES, DenseStudy
from benchmarks.toy.rates import VALIDATION_SEED
from benchmarks.toy.study import RECORD, study_options, versions
from callbacks.cli.recipes.runner import exit_status

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
    record: dict[str, Any] = {"plan": plan, "size": asdict(study.make.size), "versions": versions(*PACKAGES)}
    write_json(output / RECORD, record)
    study.run(study.make.data(METHODS), "Pairs and labels")
    conditions = study.conditions("vanilla", "structural")
    record["conditions"] = [asdict(condition) for condition in conditions]
    record["margins"] = study.margins("structural")
    write_json(output / RECORD, record)
    if failed := [condition for condition in conditions if not condition.holds]:
        study.console.print(f"{len(failed)} conditions fail: nothing is fitted, and that is the result")
        _finish(study, record, started)
        return
    tuning = study.tuned(METHODS, GRID)
    record["tuning"] = tuning.json()
    rates = dict(tuning.best) | {name: tuning.best[method.rate_of] for name, method in CONTROLS.items()}
    write_json(output / RECORD, record)
    study.run(list(study.make.labels(CONTROLS)), "Labels of the controls")
    methods = {**METHODS, **CONTROLS}
    record["runs"] = study.record(methods, rates, seeds)
    _finish(study, record, started)


def _finish(study: DenseStudy, record: dict[str, Any], started: float) -> None:
    """Write the record with commands and times, and the page's part."""
    record |= study.timed(started)
    output = study.make.output
    write_json(output / RECORD, record)
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
    options = study_options("benchmarks.toy.study_dense", __doc__ or "", "runs/study-dense", ROWS, argv)
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
