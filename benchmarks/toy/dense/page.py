"""The study of DenseDPO on the results page: its tables, its plot, and sentences that follow from the numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report.tables import Cell, Row, Table
from benchmarks.toy.dense.methods import BASE, CONTROLS, METHODS
from benchmarks.toy.dense.pictures import motion_plot
from benchmarks.toy.dense.scores import COLUMNS, spread
from benchmarks.toy.results_page import Page, PageTable, made_with, written_picture

#: Numbers of one seed, see `MotionScores.numbers`.
Numbers = Mapping[str, float | None]
#: The paper's tables 1 and 2: `dynamic degree` of VBench.
PAPER = (
    "The paper's dynamic degree (VideoJAM-bench, MotionBench): base 84.2, 83.7; SFT 83.3, 84.9; vanilla 80.3, 72.6; "
    "structural 84.7, 80.0; dense 85.4, 84.7."
)
#: Fewer pairs than these overfit before they say anything.
LEAST_PAIRS = 400
ABOUT = (
    "A toy Wan makes videos of one shape that moves at a speed that the prompt does not name. The judge knows the "
    "truth and is blind to motion; that it prefers stiller videos (C3) comes from the model alone, whose faster videos "
    "have more artifacts (C2). Motion is net displacement within a second, pixels per frame; quality is 1 minus the "
    "mean squared distance of frames from the nearest clean picture. Numbers are means over test seeds, with the "
    "smallest and the largest; changes are against the base model's videos of the same prompts and noise.",
)


def dense_page(record: Mapping[str, Any], output: Path, rows: Mapping[str, str] | None = None) -> Page:
    """The part of the page.

    Args:
        record: what the study wrote, `study.json`.
        output: the study's folder, into which the plot is drawn.
        rows: parts that may follow, see `Page`.
    """
    conditions = conditions_rows(record["conditions"])
    failed = [item["name"] for item in record["conditions"] if not item["holds"]]
    notes = [margins_note(record["margins"])]
    common: dict[str, Any] = {
        "title": "DenseDPO: does a label a second keep motion?",
        "command": "python -m benchmarks.toy.study_dense",
        "order": 10,
        "text": list(ABOUT),
        "conditions": conditions,
        "rows": dict(rows or {}),
        "made_with": made_with(record),
        "data": {key: value for key, value in record.items() if key != "commands"},
    }
    if "runs" not in record:
        notes.append(f"Conditions {', '.join(sorted(set(failed)))} fail: nothing was fitted, and that is the result.")
        return Page(**common, notes=notes)
    runs: Mapping[str, Any] = record["runs"]
    titles = {name: run["title"] for name, run in runs.items()}
    core = [name for name in (BASE, *METHODS) if name in runs]
    controls = [name for name in CONTROLS if name in runs]
    changes = change_table({titles[name]: runs[name]["seeds"] for name in core}, runs[BASE]["seeds"])
    return Page(
        **common,
        tables=[
            PageTable.of("Methods", runs_table({titles[name]: runs[name] for name in core})),
            PageTable.of("Change against the base, each test seed", changes),
            PageTable.of("Learning rates: quality on the validation seed", tuning_table(record["tuning"], titles)),
        ],
        controls=PageTable.of(
            "Controls: change against the base, each test seed",
            change_table({titles[name]: runs[name]["seeds"] for name in controls}, runs[BASE]["seeds"]),
        ),
        pictures=[motion_picture(output, "dense", {name: runs[name] for name in (*core, *controls)})],
        notes=[*notes, *run_notes(record, titles)],
    )


def motion_picture(output: Path, name: str, runs: Mapping[str, Any]) -> dict[str, str]:
    """Draw runs' motion against their quality into the study's folder; the picture as a page names it."""
    points = {run["title"]: [(seed["motion"], seed["quality"]) for seed in run["seeds"]] for run in runs.values()}
    file = written_picture(output, name, motion_plot(points))
    return {"file": file, "text": "Motion against quality: a point a seed, a cross the mean of a run"}


def conditions_rows(conditions: Sequence[Mapping[str, Any]]) -> PageTable:
    """The conditions with the paper's figures beside them."""
    rows = [
        [
            f"{item['name']} {item['text']}",
            f"{item['value']:.2f}",
            item["bound"],
            "yes" if item["holds"] else "**no**",
            item["paper"],
        ]
        for item in conditions
    ]
    return PageTable("Conditions, checked before any fit", ["condition", "here", "bound", "holds", "paper"], rows)


def margins_note(margins: Mapping[str, Sequence[float]]) -> str:
    """What C5's shares would be at other margins of the judge."""
    parts = [
        f"at {margin}: {whole:.0%} of whole videos decided, {decided:.0%} with a decided second, {both:.0%} with "
        "seconds won by either"
        for margin, (whole, decided, both) in margins.items()
    ]
    return (
        f"C5's shares rest on the judge's margin; guided pairs {'; '.join(parts)}. The paper has a third of whole "
        "videos decided, more than 80% with a decided second, and more than 60% with seconds won by either. Of C1 to "
        "C4 it gives no figures: it says that people prefer the stiller of two independent videos, and that guided "
        "ones share their motion."
    )


def runs_table(runs: Mapping[str, Any]) -> Table:
    """A line for each run: its rate, the pairs it trained on, and the means of its numbers with their range."""
    rows = []
    for title, run in runs.items():
        rate = "-" if run["rate"] is None else f"{run['rate']:g}"
        pairs = "-" if run["rate"] is None else "/".join(map(str, sorted(set(run["pairs"]))))
        rows.append(
            Row(
                title,
                "",
                [Cell(rate), Cell(pairs), *(Cell(spread([seed[key] for seed in run["seeds"]])) for key in COLUMNS)],
            )
        )
    return Table(("run", "rate", "pairs", *COLUMNS.values()), rows)


def change_table(runs: Mapping[str, Sequence[Numbers]], base: Sequence[Numbers]) -> Table:
    """A line for each run: mean change of motion, quality and quality at the base's speeds, and that of each seed."""
    keys = ("motion", "quality", "quality_at_base_motion")
    rows = []
    for title, seeds in runs.items():
        cells = []
        for key in keys:
            changes = [_change(seed[key], before[key]) for seed, before in zip(seeds, base, strict=True)]
            cells.append(Cell(spread(changes, signs=True)))
        rows.append(Row(title, "", cells))
    return Table(("run", *(COLUMNS[key] for key in keys)), rows)


def tuning_table(tuning: Mapping[str, Any], titles: Mapping[str, str]) -> Table:
    """Every try: quality, and motion in brackets, at each rate; the chosen rate's are bold."""
    grid = [f"{rate:g}" for rate in tuning["grid"]]
    rows = []
    for name, tries in tuning["tries"].items():
        chosen = f"{tuning['best'][name]:g}"
        cells = [
            Cell(f"{tries[rate]['quality']:.4f} ({tries[rate]['motion']:.3f})", None, rate == chosen) for rate in grid
        ]
        rows.append(Row(titles[name], "", cells))
    return Table(("quality (motion)", *grid), rows)


def run_notes(record: Mapping[str, Any], titles: Mapping[str, str]) -> list[str]:
    """What a reader has to know of the runs: the plan, and where it could not be kept."""
    plan, tuning, runs = record["plan"], record["tuning"], record["runs"]
    notes = [
        f"Learning rates: {plan['criterion']}, seed {plan['validation_seed']}; the grid was "
        f"{', '.join(f'{rate:g}' for rate in plan['grid'])} for every method, and grew for every one where one's best "
        "was at its edge. Controls take the rate of the method that they are of.",
        "All seeds train on the same pairs; a seed decides their order, times, noise, the LoRA's first weights, the "
        "quarter of the pairs of `as many labels`, and the noise of the samples.",
    ]
    notes.append(PAPER)
    if tuning["at_edge"]:
        names = ", ".join(titles[name] for name in tuning["at_edge"])
        notes.append(f"At the edge of the longest grid that is tried: {names}.")
    notes += few_pairs(runs)
    return notes


def _change(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def quick_page(conditions: Sequence[Mapping[str, Any]], margins: Mapping[str, Sequence[float]], count: int) -> Page:
    """The page's part of the pairs that are shipped.

    Args:
        conditions: measured on them.
        margins: see `margins_note`.
        count: pairs of each kind.
    """
    return Page(
        title="DenseDPO: the shipped pairs of the toy world",
        command="python -m benchmarks.toy.study_dense --quick --output runs/study-dense-quick",
        order=5,
        text=[
            f"The conditions of the study below on the first {count} pairs of either kind in "
            "`datamodules/toy_world/pairs`, decoded from their latents. `--quick` checks them with the same bounds as "
            "the study, and then runs every kind of stage once, far too small to say anything of an order."
        ],
        conditions=conditions_rows(conditions),
        notes=[margins_note(margins)],
        rows={"dense": "the study's table (`make study-dense`)"},
    )


def rows_page(name: str, record: Mapping[str, Any], output: Path) -> Page:
    """The page's part of an ablation or open question.

    Args:
        name: of the rows.
        record: what they wrote, `rows-NAME.json`.
        output: the study's folder, into which the plot is drawn.
    """
    runs: Mapping[str, Any] = record["runs"]
    titles = {run_name: run["title"] for run_name, run in runs.items()}
    tables = []
    if record["pairs"]:
        columns = list(next(iter(record["pairs"].values())))
        rows = [[kind, *(f"{values[column]:.2f}" for column in columns)] for kind, values in record["pairs"].items()]
        tables.append(PageTable("Pairs", ["pairs", *columns], rows))
    tables.append(PageTable.of("Runs", runs_table({titles[run_name]: run for run_name, run in runs.items()})))
    for base in dict.fromkeys(run["base"] for run in runs.values() if "base" in run):
        changed = {titles[key]: run["seeds"] for key, run in runs.items() if run.get("base") == base}
        heading = f"Change against {titles[base]}, each test seed"
        tables.append(PageTable.of(heading, change_table(changed, runs[base]["seeds"])))
    notes = ["Learning rates are those that the core table chose for the same labels."]
    if "tuning" in record:
        heading = "Learning rates: quality on the validation seed"
        tables.append(PageTable.of(heading, tuning_table(record["tuning"], titles)))
        notes = [f"Learning rates: {record['plan']['criterion']}, seed {record['plan']['validation_seed']}."]
    return Page(
        title=f"DenseDPO: {record['title'][0].lower()}{record['title'][1:]}",
        command=f"python -m benchmarks.toy.study_dense --rows {name}",
        order=20,
        tables=tables,
        pictures=[motion_picture(output, f"dense-{name}", runs)],
        notes=[*notes, *few_pairs(runs)],
        made_with=made_with(record),
        data={key: value for key, value in record.items() if key != "commands"},
    )


def few_pairs(runs: Mapping[str, Any]) -> list[str]:
    """A note of the runs that trained on too few pairs to say much; none where there is none."""
    few = {run["title"]: min(run["pairs"]) for run in runs.values() if run["pairs"] and min(run["pairs"]) < LEAST_PAIRS}
    listed = ", ".join(f"{title} {count}" for title, count in few.items())
    return [f"Fewer than {LEAST_PAIRS} pairs: {listed}."] if few else []
