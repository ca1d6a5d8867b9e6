"""The study of VistaDPO: its commands, its choice of rates, what it does where a condition fails, and its page."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import vidpref
from benchmarks.base.results import write_json
from benchmarks.toy.commands import ROOT
from benchmarks.toy.rates import VALIDATION_SEED
from benchmarks.toy.results_page import read_page
from benchmarks.toy.study import RECORD
from benchmarks.toy.study_vista import QUICK, all_stages, main, run_core, run_rows
from benchmarks.toy.vista.conditions import Condition, records
from benchmarks.toy.vista.measures import FACTS
from benchmarks.toy.vista.methods import BASE, CONTROLS, DATA, METHODS, TESTS, Method, Size, VistaStages, run_name
from benchmarks.toy.vista.page import GAPS, SAID, YES_NO
from benchmarks.toy.vista.rows import ROW_BASES, ROW_DATA, ROW_TESTS, ROWS, TERMS
from benchmarks.toy.vista.study import GRID, VistaStudy
from callbacks.cli.recipes.stage import PYTHON, Stage, dependencies, require_inputs
from lightning_modules.vista_dpo import VistaWeights

METHOD_SETS = {"core": {**METHODS, **CONTROLS}} | {name: rows.methods for name, rows in ROWS.items()}


def study_in(output: Path) -> VistaStudy:
    return VistaStudy(all_stages(output), console=Console(quiet=True))


class Pretender:
    """Runs no stage: writes made-up scores where one would measure, and remembers what was asked for."""

    def __init__(self, holds: bool = True, best_rate: float = GRID[1], failing: str = "") -> None:
        self.holds, self.best_rate, self.failing = holds, best_rate, failing
        self.ran: list[str] = []

    def run(self, stages: Sequence[Stage], title: str) -> None:
        for stage in stages:
            self.ran.append(stage.name)
            if stage.name.startswith("conditions"):
                fails = not self.holds or bool(self.failing and stage.name.startswith(f"conditions-{self.failing}"))
                write_json(Path(stage.writes[0]), records([Condition("gap", 3.0 if fails else 1.0, None, 2.5)]))
            if stage.name.startswith("measure-"):
                rate = float(stage.name.rpartition("-")[2]) if "--adapter" in stage.command else 0.0
                value = 0.5 - abs(rate - self.best_rate) + 0.1 * ("vista" in stage.name)
                write_json(Path(stage.writes[0]), dict.fromkeys([*SAID, *YES_NO, *GAPS], value))


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    def of(**options: Any) -> Pretender:
        pretender = Pretender(**options)
        monkeypatch.setattr(VistaStudy, "run", lambda self, stages, title: pretender.run(stages, title))
        return pretender

    return of


@pytest.mark.parametrize("name", sorted(METHOD_SETS))
def test_stages_are_commands_of_their_own_in_an_order_that_has_their_inputs(tmp_path: Path, name: str) -> None:
    make, methods = study_in(tmp_path).make, METHOD_SETS[name]
    stages = [*make.prepared(methods, [0, 1]), *make.based(methods)]
    for seed in (0, 1):
        for run, method in methods.items():
            rate = None if method.is_base else 1e-3
            if rate is not None and not method.fit_of:
                stages.append(make.fit(run, method, seed, rate))
            stages.append(make.measure(run, method, seed, rate))
    graph = dependencies(stages, ROOT)
    require_inputs(stages, graph, ROOT, [stage.name for stage in stages])
    assert len({stage.name for stage in stages}) == len(stages)
    assert {name for name in graph if name.startswith("conditions-")} == {
        f"conditions-{method.base}" for method in methods.values() if method.base
    }
    assert all(stage.command[0] == PYTHON or stage.command[0] in vidpref.VERBS for stage in stages)
    for run, method in methods.items():
        based = {f"base-{method.base}"} if method.base else set()
        fit = f"fit-{run_name(method.fit_of or run, 1, 1e-3)}"
        if not method.is_base:
            assert graph[fit] == {f"data-{method.data}-1"} | based
        own = set() if method.is_base else {fit}
        measure = f"measure-{run_name(run, 1, None if method.is_base else 1e-3)}"
        assert graph[measure] == {*own, f"data-test-{method.test}-1", *based}


def test_configurations_and_data_of_all_methods_are_there() -> None:
    for methods in METHOD_SETS.values():
        for name, method in methods.items():
            assert method.is_base or (ROOT / f"configs/toy/{method.config}.yaml").is_file()
            assert method.data in {**DATA, **ROW_DATA}
            assert method.test in {**TESTS, **ROW_TESTS}
            assert method.base in {"", *ROW_BASES}
            assert method.is_base or (method.rate_of or name) in {**METHODS, **methods}
            assert method.fit_of in {"", *methods}


def test_terms_are_alone_and_left_out_with_the_papers_weights() -> None:
    assert dict(TERMS) == vars(VistaWeights())
    terms = ROWS["terms"].methods
    for name, weight in TERMS.items():
        alone, without = (terms[f"{kind}-{name}"].options for kind in ("only", "no"))
        assert {key: value for key, value in alone.items() if value} == {f"--model.weights.{name}": weight}
        assert {key for key, value in without.items() if not value} == {f"--model.weights.{name}"}


def test_the_core_table_has_base_baselines_equal_compute_and_controls() -> None:
    assert list(METHODS) == ["sft", "dpo", "dpo-compute", "vista"]
    assert METHODS["dpo-compute"].steps > 1
    assert {method.rate_of for method in CONTROLS.values()} == {"dpo", "vista"}
    assert set(FACTS) == {"relation", "temporal", "detail"}


def test_rates_are_written_before_the_first_fit_of_a_test_seed(tmp_path: Path, pretend: Any) -> None:
    study = study_in(tmp_path)
    pretender = pretend()
    written: list[bool] = []
    former = pretender.run

    def run(stages: Sequence[Stage], title: str) -> None:
        if any(stage.name.startswith("fit-vista-0-") for stage in stages):
            written.append("tuning" in json.loads((tmp_path / RECORD).read_text()))
        former(stages, title)

    pretender.run = run
    run_core(study, [0, 1])
    assert written == [True]
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["plan"]["grid"] == list(GRID)
    tries = record["tuning"]["tries"]
    assert {tuple(rates) for rates in tries.values()} == {tuple(f"{rate:g}" for rate in GRID)}
    assert set(record["tuning"]["best"].values()) == {GRID[1]}
    assert record["rates"]["vista-random"] == GRID[1]
    assert set(record["runs"]) == {BASE, *METHODS, *CONTROLS}
    first_test = next(place for place, name in enumerate(pretender.ran) if name.startswith("fit-sft-0-"))
    assert all(f"-{VALIDATION_SEED}-" in name for name in pretender.ran[:first_test] if name.startswith("fit-"))
    page = read_page(tmp_path / "page" / "vista.json")
    assert [len(table.rows) for table in page.tables] == [5, 5, 5, 4]
    assert page.controls is not None
    assert "VistaDPO is above SFT on 2 of 2 seeds" in page.markdown()


def test_the_grid_grows_for_every_method_where_a_best_rate_is_at_its_edge(tmp_path: Path, pretend: Any) -> None:
    study = study_in(tmp_path)
    pretender = pretend(best_rate=GRID[-1])
    tuning = study.tuned({"dpo": METHODS["dpo"], "vista": METHODS["vista"]}, GRID)
    assert tuning.grid == (*GRID, 1e-2)
    assert set(tuning.best.values()) == {GRID[-1]}
    fits = {name for name in pretender.ran if name.startswith("fit-")}
    assert {f"fit-{name}-{VALIDATION_SEED}-0.01" for name in ("dpo", "vista")} <= fits


def test_where_a_condition_fails_nothing_is_fitted_and_that_is_the_page(tmp_path: Path, pretend: Any) -> None:
    study = study_in(tmp_path)
    pretender = pretend(holds=False)
    run_core(study, [0])
    assert pretender.ran == ["conditions"]
    page = read_page(tmp_path / "page" / "vista.json")
    assert page.tables == []
    assert "nothing was fitted, and that is the result" in page.markdown()
    assert "| gap | 3.000 | at most 2.5 | **no** |" in page.markdown()


@pytest.mark.parametrize("name", sorted(ROWS))
def test_rows_take_the_core_tables_rates_and_bring_a_page(tmp_path: Path, pretend: Any, name: str) -> None:
    study = study_in(tmp_path)
    pretend()
    with pytest.raises(ValueError, match="has no runs"):
        run_rows(study, name, [0])
    run_core(study, [0])
    run_rows(study, name, [0])
    record = json.loads((tmp_path / f"rows-{name}.json").read_text())
    assert set(record["runs"]) == set(ROWS[name].methods)
    assert set(record["rates"].values()) == {GRID[1]}
    page = read_page(tmp_path / "page" / f"vista-{name}.json")
    # Beside what the core table measured on the same videos; rows on others have a base of their own.
    beside = 0 if any(method.is_base for method in ROWS[name].methods.values()) else 3
    assert len(page.tables[0].rows) == len(ROWS[name].methods) + beside
    assert [item["file"] for item in page.pictures] == [f"vista-{name}.png"]


@pytest.mark.parametrize("failing", ["frames-8", "frames"])
def test_nothing_is_fitted_from_a_base_model_of_rows_whose_conditions_fail(
    tmp_path: Path, pretend: Any, failing: str
) -> None:
    study = study_in(tmp_path)
    pretender = pretend(failing=failing)
    run_core(study, [0])
    pretender.ran.clear()
    run_rows(study, "frames", [0])
    bases = [f"frames-{number}" for number in (4, 8, 16, 32)]
    left = [base for base in bases if not base.startswith(failing)]
    checked = [pretender.ran.index(f"conditions-{base}") for base in bases]
    fitted = [(place, name) for place, name in enumerate(pretender.ran) if name.startswith("fit-")]
    assert all(place > max(checked) for place, _ in fitted)
    assert {name.split("-")[2] for _, name in fitted} == {base.removeprefix("frames-") for base in left}
    page = read_page(tmp_path / "page" / "vista-frames.json")
    assert [len(table.rows) for table in page.tables] == [3 * len(left)] * 3 * bool(left)
    assert bool(page.pictures) == bool(left)
    assert page.conditions is not None
    assert page.conditions.header == ["condition", *bases, "bound"]
    values = ["1.000" if base in left else "3.000 **no**" for base in bases]
    assert page.conditions.rows == [["gap", *values, "at most 2.5"]]
    assert "Conditions of frames-8 fail (gap): nothing was fitted from it, and that is the result." in page.notes
    assert len([note for note in page.notes if "fail" in note]) == len(bases) - len(left)


def test_a_method_may_make_more_steps_and_take_other_frames(tmp_path: Path) -> None:
    make = VistaStages(tmp_path, Size(steps=10))
    fit = make.fit("x", Method("x", steps=3, num_frames=8), 0, 1e-3).command
    values = {flag: fit[place + 1] for place, flag in enumerate(fit) if flag.startswith("--")}
    assert values["--trainer.max_steps"] == "30"
    assert values["--data.num_frames"] == values["--model.policy.num_frames"] == "8"


def test_minutes_of_a_run_that_passed_over_stages_are_not_given(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.seconds = {"a": 90.0, "b": 120.0}
    long_enough, too_short = (study.timed(time.time() - seconds)["minutes"] for seconds in (120, 60))
    assert long_enough == {"stages, one after the other": 3.5, "this run": 2.0}
    assert too_short == {"stages, one after the other": 3.5}


def test_sizes_are_positive() -> None:
    with pytest.raises(ValueError, match="steps is 0"):
        Size(steps=0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_quick_checks_the_conditions_and_runs_every_stage(tmp_path: Path) -> None:
    output = tmp_path / "quick"
    assert main(["--quick", "--output", str(output)]) == 0
    for name in ("sft", "dpo", "vista"):
        scores = json.loads((output / "scores" / f"{name}-0-0.001.json").read_text())
        assert set(scores) >= {*SAID, *YES_NO, *GAPS}
    assert json.loads((output / "scores" / f"{BASE}-0.json").read_text())["auc_counter"] < 0.5
    assert QUICK.steps == 2
    conditions = read_page(output / "page" / "vista-pairs.json").conditions
    assert conditions is not None
    assert [row[-1] for row in conditions.rows] == ["yes"] * 7 + ["-"] * 3
