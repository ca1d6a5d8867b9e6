"""The study of DenseDPO: methods differ in one thing, rates follow from one grid, controls do what they say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.toy.dense.conditions import Condition
from benchmarks.toy.dense.matched_labels import dropped_pairs, write_matched_labels
from benchmarks.toy.dense.methods import CONTROLS, METHODS, Size
from benchmarks.toy.dense.page import dense_page, rows_page
from benchmarks.toy.dense.pair_measures import PairMeasures
from benchmarks.toy.dense.rows import ROWS, core_record, in_order
from benchmarks.toy.dense.scores import COLUMNS
from benchmarks.toy.dense.stages import DenseStages
from benchmarks.toy.dense.study import GRID, DenseStudy
from benchmarks.toy.rates import LONGEST, Tuning, at_edge, best_rates, extended
from benchmarks.toy.results_page import read_page
from benchmarks.toy.study_dense import QUICK_METHODS, main, run_core
from callbacks.cli.recipes.stage import Stage
from datamodules.dense.pair_labels import LabelFilter, join_labels
from datamodules.shards.index import Index
from tests.support.flow_shards import write_labels, write_pairs


def options(words: Sequence[str]) -> dict[str, str]:
    return dict(zip(words[1::2], words[2::2], strict=True))


@pytest.fixture
def make(tmp_path: Path) -> DenseStages:
    return DenseStages(tmp_path, Size())


def differing(make: DenseStages, first: str, second: str) -> set[str]:
    methods = {**METHODS, **CONTROLS}
    one, other = (options(make.fit(name, methods[name], 0, 1e-4).command) for name in (first, second))
    return {name for name in one | other if one.get(name) != other.get(name)} - {"--trainer.default_root_dir"}


def test_methods_differ_in_pairs_and_labels_alone(make: DenseStages) -> None:
    assert differing(make, "structural", "vanilla") == {"--data.train", "--data.train_labels"}
    assert differing(make, "dense", "dense-all") == {"--data.label_fraction"}
    whole = {"--data.min_decided", "--data.drop_whole_ties", "--model.granularity", "--data.train_labels"}
    assert differing(make, "structural", "dense-all") == whole
    assert differing(make, "vanilla", "vanilla-random") == {"--data.flip_labels"}
    assert differing(make, "vanilla", "vanilla-matched") == {"--data.train_labels"}
    assert differing(make, "dense", "dense-random") == {"--data.flip_labels"}
    assert options(make.fit("dense", METHODS["dense"], 0, 1e-4).command)["--data.label_fraction"] == "0.25"


def test_every_stage_of_the_rows_has_a_name_and_a_rate(make: DenseStages) -> None:
    for rows in ROWS.values():
        maker = DenseStages(make.output, make.size, {**make.kinds, **rows.kinds})
        stages = [*maker.data(rows.methods), *maker.runs(rows.methods, {name: [1e-4] for name in rows.methods}, [0])]
        assert len({stage.name for stage in stages}) == len(stages)
        for method in rows.methods.values():
            known = method.same_as or method.rate_of
            assert known in METHODS or (not known and rows.grid)
    assert {"segment-length", "label-noise", "eta", "full", "longer"} <= set(ROWS)
    assert set(QUICK_METHODS) <= set(METHODS) | set(CONTROLS)


def test_the_grid_grows_for_all_where_the_best_is_at_its_edge() -> None:
    tries = {"a": {3e-5: 0.1, 1e-4: 0.3, 3e-4: 0.2}, "b": {3e-5: 0.1, 1e-4: 0.2, 3e-4: 0.4}}
    best = best_rates(tries)
    assert best == {"a": 1e-4, "b": 3e-4}
    assert at_edge(GRID, best) == ["b"]
    assert extended(GRID, best) == (3e-5, 1e-4, 3e-4, 1e-3)
    assert extended(GRID, {"a": 3e-5}) == (1e-5, 3e-5, 1e-4, 3e-4)
    assert extended(GRID, {"a": 1e-4, "b": 1e-4}) == GRID
    assert extended(GRID, {"a": 3e-5, "b": 3e-4}) == (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
    longest = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
    assert len(longest) == LONGEST
    assert extended(longest, {"a": 1e-6}) == longest
    assert best_rates({"a": {1e-4: 0.3, 3e-5: 0.3}}) == {"a": 3e-5}, "of equal ones the gentler"


def test_matched_labels_leave_out_the_largest_differences_until_motion_is_equal() -> None:
    keys = [f"p{index}" for index in range(6)]
    # Chosen minus rejected motion of each pair: -3, -1, +1, -2, 0.5 and a tie.
    first = np.array([1.0, 4.0, 2.0, 3.0, 1.5, 9.0])
    second = np.array([4.0, 3.0, 1.0, 1.0, 1.0, 0.0])
    labels = dict(zip(keys, (1, -1, 1, -1, 1, 0), strict=True))
    measures = PairMeasures(keys, np.stack([first, second], axis=1), np.zeros((6, 2, 4)))
    assert dropped_pairs(labels, measures) == ["p0", "p3"]
    assert dropped_pairs({"p2": 1}, measures) == []


def test_matched_labels_are_labels_of_the_same_pairs(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 4)
    labels = Path(write_labels(pairs, [(1,), (-1,), (0,), (1,)], frames_per_segment=99, whole=1))
    keys = [entry.key for entry in Index.read(pairs).entries]
    speeds = np.array([[0.0, 3.0], [2.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    PairMeasures(keys, speeds, np.zeros((4, 2, 4))).write(tmp_path / "measures.json")
    write_matched_labels(labels, tmp_path / "measures.json", tmp_path / "matched.index.json")
    matched = Index.read(tmp_path / "matched.index.json", "vidpref/labels")
    assert [entry.key for entry in matched.entries] == keys[1:]
    taken = join_labels([Index.read(pairs)], [matched]).take(LabelFilter(None))
    assert len(taken.labels) == 3


def numbers(motion: float, quality: float) -> dict[str, float]:
    return dict.fromkeys(COLUMNS, quality) | {"motion": motion}


def condition(name: str, holds: bool) -> dict[str, object]:
    return {"name": name, "text": "text", "value": 0.5, "bound": "< 0.3", "holds": holds, "paper": "> 0.6"}


RECORD = {
    "plan": {"grid": GRID, "criterion": "quality", "validation_seed": 100, "seeds": [0, 1]},
    "size": {"pairs": 8},
    "versions": {"torch": "2"},
    "conditions": [condition("C1", True)],
    "margins": {"0.005": [0.4, 0.9, 0.45]},
}


def test_failed_conditions_are_the_published_result(tmp_path: Path) -> None:
    failed = {**RECORD, "conditions": [condition("C1", True), condition("C3", False)]}
    page = dense_page(failed, tmp_path)
    assert page.tables == []
    assert page.notes[-1] == "Conditions C3 fail: nothing was fitted, and that is the result."
    assert "| C3 text | 0.50 | < 0.3 | **no** | > 0.6 |" in page.markdown()
    (tmp_path / "study.json").write_text(json.dumps(failed))
    with pytest.raises(ValueError, match="conditions C3 fail, and nothing is fitted"):
        core_record(tmp_path)


def test_the_page_has_every_seed_every_try_and_few_pairs(tmp_path: Path) -> None:
    tries = {name: {rate: numbers(1.0, 0.9 + rate) for rate in GRID} for name in METHODS}
    tuning = Tuning(dict.fromkeys(METHODS, 3e-4), GRID, tries)
    base = {"title": "the base model", "rate": None, "pairs": [], "seeds": [numbers(1.0, 0.9), numbers(1.2, 0.8)]}
    methods = {**METHODS, **CONTROLS}
    runs = {
        name: {
            "title": method.title,
            "base": "base",
            "rate": 3e-4,
            "pairs": [399, 500],
            "seeds": [numbers(0.9, 0.91), numbers(1.0, 0.84)],
        }
        for name, method in methods.items()
    }
    record = {**RECORD, "tuning": tuning.json(), "runs": {"base": base, **runs}}
    page = dense_page(record, tmp_path)
    text = page.markdown()
    assert "| vanilla DPO | 0.0003 | 399/500 | 0.950 (0.900 to 1.000) | 0.875 (0.840 to 0.910) |" in text
    assert "| vanilla DPO | -0.150 (-0.100 -0.200) | +0.025 (+0.010 +0.040) |" in text
    assert "| vanilla DPO | 0.9000 (1.000) | 0.9001 (1.000) | **0.9003 (1.000)** |" in text
    assert page.controls is not None
    assert [row[0] for row in page.controls.rows] == [method.title for method in CONTROLS.values()]
    assert any("Fewer than 400 pairs: SFT 399" in note for note in page.notes)
    assert any(note.startswith("At the edge of the longest grid") for note in page.notes)
    assert (tmp_path / "page" / "dense.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "study.json").write_text(json.dumps({**record, "runs": runs}))
    assert core_record(tmp_path)["tuning"]["best"] == tuning.best


def test_a_page_of_rows_has_their_pairs_and_compares_each_length_with_its_own_base(tmp_path: Path) -> None:
    def run(title: str, motion: float, base: str = "") -> dict[str, object]:
        given = {"base": base, "rate": 3e-4} if base else {"rate": None}
        return {"title": title, "pairs": [480] if base else [], "seeds": [numbers(motion, 0.9)], **given}

    runs = {
        "base": run("the base model", 1.0),
        "base-8s": run("the base model, 8 s", 2.0),
        "seconds-4": run("DenseDPO, 4 s", 1.5, "base"),
        "seconds-8": run("DenseDPO, 8 s", 1.5, "base-8s"),
    }
    pairs = {"seconds-4": {"motion": 0.5}, "seconds-8, slow half": {"motion": 0.25}}
    record = {**RECORD, "title": "Longer videos, a label a second", "pairs": pairs, "runs": runs}
    page = rows_page("longer", record, tmp_path)
    text = page.markdown()
    assert text.startswith("## DenseDPO: longer videos, a label a second\n")
    assert "| seconds-8, slow half | 0.25 |" in text
    assert "| DenseDPO, 4 s | +0.500 (+0.500) |" in text
    assert "| DenseDPO, 8 s | -0.500 (-0.500) |" in text
    assert "Learning rates are those that the core table chose for the same labels." in page.notes
    assert page.made_with == {"seeds": [0, 1], "pairs": 8, "torch": "2", "minutes": {}}
    path = page.write(tmp_path, "dense-longer")
    # Its picture is beside it.
    assert read_page(path).pictures[0]["file"] == "dense-longer.png"
    tries = {"lora-dense": {1e-4: numbers(1.0, 0.9)}}
    tuned = Tuning({"lora-dense": 1e-4}, [1e-4], tries).json()
    own = {"base": runs["base"], "lora-dense": run("DenseDPO, LoRA", 1.5, "base")}
    page = rows_page("full", {**record, "pairs": {}, "tuning": tuned, "runs": own}, tmp_path)
    assert page.notes == ["Learning rates: quality, seed 100."]
    assert "| DenseDPO, LoRA | **0.9000 (1.000)** |" in page.markdown()


def test_rows_wait_for_the_core_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(tmp_path), "--rows", "eta"]) == 1
    assert "let the core table come to its end first, without --rows" in capsys.readouterr().err


def test_rows_take_from_the_core_table_what_it_has_fitted() -> None:
    methods = ROWS["label-noise"].methods
    same = {name: method.same_as for name, method in methods.items() if method.same_as}
    assert same == {"noise-vanilla-0": "vanilla", "noise-dense-0": "dense"}
    # Each differs from the method that it is compared with in its labels alone.
    for name, method in methods.items():
        of = METHODS["vanilla" if "vanilla" in name else "dense"]
        assert replace(method, title=of.title, flip=0.0, rate_of="", same_as="") == of
    for name, method in ROWS["segment-length"].methods.items():
        if method.same_as:
            assert replace(method, title="", same_as="") == replace(METHODS[method.same_as], title=""), name
    made = {"base": {"title": "the base model"}} | {name: {"title": name} for name in methods if name not in same}
    runs = in_order(methods, made, {"vanilla": {"title": "vanilla DPO", "rate": 1e-3}, "dense": {"title": "-"}})
    assert list(runs) == ["base", *methods]
    assert runs["noise-vanilla-0"] == {"title": "vanilla DPO, 0% turned", "rate": 1e-3}
    assert runs["noise-vanilla-0.1"] == {"title": "noise-vanilla-0.1"}


class FailingStudy(DenseStudy):
    """A study whose conditions fail, and which keeps its phases' titles in the place of running them."""

    def __init__(self, make: DenseStages) -> None:
        super().__init__(make)
        self.phases: list[str] = []

    def run(self, stages: Sequence[Stage], title: str) -> None:
        self.phases.append(title)

    def conditions(self, independent: str, guided: str) -> list[Condition]:
        return [Condition("C3", "text", 0.0, "< -0.2", False)]

    def margins(self, guided: str) -> dict[str, tuple[float, float, float]]:
        return {"0.005": (0.4, 0.9, 0.5)}


def test_no_fit_is_run_where_a_condition_fails(make: DenseStages, capsys: pytest.CaptureFixture[str]) -> None:
    study = FailingStudy(make)
    run_core(study, [0])
    assert study.phases == ["Pairs and labels"]
    assert "1 conditions fail: nothing is fitted, and that is the result" in capsys.readouterr().out
    assert "runs" not in json.loads((make.output / "study.json").read_text())
    assert (make.output / "page" / "dense.json").is_file()


def test_a_study_without_pairs_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="pairs is 0; give 1 or more"):
        Size(pairs=0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_quick_checks_the_conditions_and_runs_every_stage_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.index("C5") < printed.index("fit vanilla DPO")
    page = read_page(tmp_path / "page" / "dense-pairs.json")
    assert page.conditions is not None
    # No order of methods is checked: a few steps on a few pairs say nothing of one.
    assert [row[3] for row in page.conditions.rows] == ["yes"] * 8
    records = [json.loads(path.read_text()) for path in (tmp_path / "stages").glob("*.json")]
    assert all(record["finished"] for record in records)
    commands = [record["command"].removeprefix("vidpref ") for record in records]
    assert {command.split()[0] for command in commands} == {"prepare", "predict", "fit", "python"}
    assert sum(command.startswith("fit ") for command in commands) == len(QUICK_METHODS)
