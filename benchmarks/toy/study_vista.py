"""Does VistaDPO make a model with a language prior say what its video shows? The paper's experiment on a toy world.

    python -m benchmarks.toy.study_vista --output runs/study-vista

The conditions of the base model are checked first (`vista.conditions`); where one fails, that is the result, and
nothing is fitted. Every method's learning rate is chosen on a validation seed and written down before the first fit of
a test seed. What is done is passed over, so that the same command goes on after an interruption.

`--rows NAME` runs an ablation or an open question (`vista.rows`) in the same folder, with the rates of the core table;
`--quick` checks the conditions and runs every kind of stage once, far too small to say anything of an order.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.base.results import write_json
from benchmarks.toy.commands import from_root
from benchmarks.toy.rates import VALIDATION_SEED
from benchmarks.toy.study import RECORD, study_options, versions
from benchmarks.toy.vista.conditions import Condition, records
from benchmarks.toy.vista.methods import CONTROLS, DATA, METHODS, TESTS, Method, Size, VistaStages
from benchmarks.toy.vista.page import core_page, quick_page, rows_page, write_page
from benchmarks.toy.vista.rows import ROW_BASES, ROW_DATA, ROW_TESTS, ROWS
from benchmarks.toy.vista.study import CRITERION, GRID, PACKAGES, VistaStudy
from callbacks.cli.recipes.runner import exit_status

#: Of everything just enough to run.
QUICK = Size(rows=48, videos=24, steps=2)
#: Its one learning rate.
QUICK_RATE = 1e-3


def run_core(study: VistaStudy, seeds: Sequence[int]) -> None:
    """The core table: conditions, learning rates, methods and controls on the test seeds.

    Args:
        study: in its folder.
        seeds: test seeds.
    """
    started = time.time()
    path = study.make.output / RECORD
    plan = {"grid": GRID, "criterion": CRITERION, "validation_seed": VALIDATION_SEED, "seeds": list(seeds)}
    # Written first, so that nothing that comes out can change it.
    record: dict[str, Any] = {"plan": plan, "size": study.make.size_json(), "versions": versions(*PACKAGES)}
    write_json(path, record)
    found = study.conditions()
    record["conditions"] = records(found)
    write_json(path, record)
    if failed := [condition for condition in found if not condition.holds]:
        study.console.print(f"{len(failed)} conditions fail: nothing is fitted, and that is the result")
    else:
        tuning = study.tuned(METHODS, GRID)
        record["tuning"] = tuning.json()
        write_json(path, record)
        methods = {**METHODS, **CONTROLS}
        rates = _rates(methods, tuning.best)
        runs = study.tested(methods, rates, seeds, base=METHODS["vista"])
        record["rates"] = rates
        record["runs"] = {name: [dict(scores) for scores in of_seeds] for name, of_seeds in runs.items()}
    record |= study.timed(started)
    write_json(path, record)
    write_page(core_page(record, study.make.output), study.make.output, "vista")
    study.console.print(f"results for the page: {study.make.output / 'page' / 'vista.json'}")


def run_rows(study: VistaStudy, name: str, seeds: Sequence[int]) -> None:
    """Rows of an ablation or an open question, beside the core table in the same folder.

    Args:
        study: in its folder, whose core table is done.
        name: of `ROWS`.
        seeds: test seeds.

    Raises:
        ValueError: the core table is not done.
    """
    started = time.time()
    core = study.make.output / RECORD
    record: dict[str, Any] = json.loads(core.read_text(encoding="utf-8")) if core.is_file() else {}
    if "runs" not in record:
        raise ValueError(
            f"{core} has no runs: the rows take its learning rates; let `study_vista` come to its end first"
        )
    rows = ROWS[name]
    found = study.base_conditions(rows.methods)
    methods = _without_failed(rows.methods, found, study)
    own = {row: method for row, method in methods.items() if not method.rate_of and not method.is_base}
    tuning = study.tuned(own, record["tuning"]["grid"]) if own else None
    rates = _rates(methods, record["tuning"]["best"] | (dict(tuning.best) if tuning else {}))
    runs = study.tested(methods, rates, seeds)
    written: dict[str, Any] = {
        "rows": name,
        "title": rows.title,
        "plan": record["plan"] | {"seeds": list(seeds)},
        "size": study.make.size_json(),
        "versions": versions(*PACKAGES),
        "conditions": {base: records(conditions) for base, conditions in found.items()},
        "rates": rates,
        "tuning": tuning.json() if tuning else None,
        "runs": {row: [dict(scores) for scores in of_seeds] for row, of_seeds in runs.items()},
    }
    written |= study.timed(started)
    write_json(study.make.output / f"rows-{name}.json", written)
    write_page(rows_page(written, record, study.make.output), study.make.output, f"vista-{name}")
    study.console.print(f"results for the page: {study.make.output / 'page' / f'vista-{name}.json'}")


def run_quick(study: VistaStudy, seed: int = 0) -> None:
    """Conditions on the shipped rows, and every kind of stage once.

    Raises:
        ValueError: a condition does not hold.
    """
    found = study.conditions()
    write_page(quick_page(records(found)), study.make.output, "vista-pairs")
    methods = {name: METHODS[name] for name in ("sft", "dpo", "vista")}
    study.tested(methods, dict.fromkeys(methods, QUICK_RATE), [seed], base=METHODS["vista"])
    if failed := [condition.name for condition in found if not condition.holds]:
        raise ValueError(f"conditions do not hold: {'; '.join(failed)}")


def _without_failed(
    methods: Mapping[str, Method], found: Mapping[str, Sequence[Condition]], study: VistaStudy
) -> dict[str, Method]:
    """The methods whose base model's conditions hold; the others are said."""
    failed = [base for base, conditions in found.items() if not all(condition.holds for condition in conditions)]
    for base in failed:
        study.console.print(f"conditions of {base} fail: nothing is fitted from it, and that is the result")
    return {name: method for name, method in methods.items() if method.base not in failed}


def _rates(methods: Mapping[str, Method], best: Mapping[str, float]) -> dict[str, float]:
    """Method -> its learning rate, or that of the method whose rate it takes; none of a base model."""
    return {name: best[method.rate_of or name] for name, method in methods.items() if not method.is_base}


def all_stages(output: Path, size: Size = Size()) -> VistaStages:  # noqa: B008  # frozen
    """Maker of the stages of the core table and of all rows."""
    return VistaStages(output, size, {**DATA, **ROW_DATA}, {**TESTS, **ROW_TESTS}, ROW_BASES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line; the exit status is 1 when a stage failed, or a condition of `--quick`."""
    options = study_options("benchmarks.toy.study_vista", __doc__ or "", "runs/study-vista", ROWS, argv)
    output = from_root(options.output)

    def run() -> None:
        if options.quick:
            run_quick(VistaStudy(VistaStages(output, QUICK), options.jobs))
            return
        study = VistaStudy(all_stages(output), options.jobs)
        if options.rows:
            run_rows(study, options.rows, options.seeds)
        else:
            run_core(study, options.seeds)

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
