"""The study of VistaDPO on the results page: its tables, and sentences that follow from the numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report.tables import Cell, Row, Table
from benchmarks.toy.results_page import Page, PageTable, made_with, written_picture
from benchmarks.toy.vista.conditions import Condition
from benchmarks.toy.vista.methods import BASE, CONTROLS, METHODS
from benchmarks.toy.vista.plots import rows_plot, usual_plot
from benchmarks.toy.vista.rows import ROWS

#: Score -> column: what sentences say.
SAID = {
    "stated": "facts stated rightly",
    "stated_usual": "usual facts",
    "stated_counter": "counter-prior facts",
    "reports_counter": "whole reports, counter-prior",
    "says_usual": "true above false, usual",
    "says_counter": "true above false, counter-prior",
}
#: Score -> column: the yes-or-no benchmark, a pair is right when both halves are.
YES_NO = {
    "overall": "pairs right, all",
    "overall_usual": "usual",
    "overall_counter": "counter-prior",
    "auc_usual": "AUC, usual",
    "auc_counter": "AUC, counter-prior",
    "basic": "basic right",
    "hallucinated": "hallucinated right",
}
GAPS = {
    "gap_reversed": "reversed",
    "gap_shuffled": "shuffled",
    "gap_other": "another video",
    "gap_clip": "other event",
    "gap_moved": "object moved",
    "above_reversed": "rows above reversed",
}
#: Of runs that are measured on yes-or-no questions which a sentence answers.
VERDICTS = {
    "verdict": "pairs right, all",
    "verdict_usual": "usual",
    "verdict_counter": "counter-prior",
    "tied": "verdict follows from the facts stated",
}
ABOUT = (
    "A toy Video-LLaVA has a language prior: every colour has its usual way, place and order, which hold in nine of "
    "ten scenes of its training texts, and many of those came with another video. It sees what is shown, and answers "
    "the usual. Preference rows follow the same prior; the videos that measure do not. A report is the answer to "
    '"What does the red circle do?", from which way, place and order are read; "true above false" compares the '
    "log-probabilities of the true report and of the same with one fact changed; yes-or-no pairs are VideoHallucer's. "
    "Every number is the mean over test seeds, with the smallest and the largest.",
)

#: What the plot of rows shows.
ROWS_PICTURE = "Counter-prior facts: a point a seed, a line at the mean"


def titles() -> dict[str, str]:
    """Name -> title, of every run of the core table and of all rows."""
    methods = {
        **METHODS,
        **CONTROLS,
        **{name: method for rows in ROWS.values() for name, method in rows.methods.items()},
    }
    return {BASE: "the base model", **{name: method.title for name, method in methods.items()}}


def core_page(record: Mapping[str, Any], output: Path) -> Page:
    """The page's part of the core table.

    Args:
        record: what the study wrote, `study.json`.
        output: the study's folder, into which the plot is drawn.
    """
    common: dict[str, Any] = {
        "title": "VistaDPO: does the model say what the video shows?",
        "command": "python -m benchmarks.toy.study_vista",
        "order": 30,
        "text": list(ABOUT),
        "conditions": conditions_table(record["conditions"]),
        "rows": {f"vista-{name}": rows.title for name, rows in ROWS.items()},
        "made_with": made_with(record),
        "data": {key: value for key, value in record.items() if key != "commands"},
    }
    if "runs" not in record:
        failed = [item["name"] for item in record["conditions"] if not item["holds"]]
        note = f"Conditions fail ({'; '.join(failed)}): nothing was fitted, and that is the result."
        return Page(**common, notes=[note])
    runs: Mapping[str, Any] = record["runs"]
    core = {name: runs[name] for name in (BASE, *METHODS)}
    controls = {name: runs[name] for name in (BASE, *CONTROLS)}
    picture = written_picture(output, "vista", usual_plot({titles()[name]: seeds for name, seeds in core.items()}))
    return Page(
        **common,
        tables=[
            runs_table("What sentences say", core, record["rates"], SAID),
            runs_table("Yes or no", core, record["rates"], YES_NO),
            runs_table("Gap of the right answer's log-probability to each negative, nats", core, record["rates"], GAPS),
            tuning_table(record["tuning"]),
        ],
        controls=runs_table("Controls", controls, record["rates"], {**SAID, "overall": YES_NO["overall"]}),
        pictures=[{"file": picture, "text": "Facts stated rightly, usual against counter-prior: a point a seed"}],
        notes=[plan_note(record["plan"]), *edge_notes(record["tuning"]), *order_notes(runs)],
    )


def quick_page(conditions: Sequence[Mapping[str, Any]]) -> Page:
    """The page's part of the shipped checkpoint and its rows.

    Args:
        conditions: measured on them.
    """
    return Page(
        title="VistaDPO: the shipped checkpoint of the toy world",
        command="python -m benchmarks.toy.study_vista --quick --output runs/study-vista-quick",
        order=25,
        text=[
            "The conditions of the study below on the rows in `datamodules/toy_world/prior_pairs`. `--quick` checks "
            "them with the same bounds as the study, and then runs every kind of stage once, far too small to say "
            "anything of an order. A gap is that of the right answer's log-probability, on rows of the natural prior; "
            "AUCs are on balanced rows. Probes have no bound: they say what the projector's output holds."
        ],
        conditions=conditions_table(conditions),
        rows={"vista": "the study's table (`make study-vista`)"},
    )


def rows_page(record: Mapping[str, Any], core: Mapping[str, Any], output: Path) -> Page:
    """The page's part of an ablation or open question.

    Args:
        record: what they wrote, `rows-NAME.json`.
        core: the record of the core table, whose base, plain DPO and VistaDPO are the first lines where they compare.
        output: the study's folder, into which the plot is drawn.
    """
    name = record["rows"]
    # Rows with a base model of their own are on videos of their own, which the core table's runs were not measured on.
    own_base = any(method.is_base for method in ROWS[name].methods.values())
    beside = [] if own_base else [row for row in (BASE, "dpo", "vista") if row not in record["runs"]]
    runs = {row: core["runs"][row] for row in beside} | dict(record["runs"])
    rates = {**core["rates"], **record["rates"]}
    tables = [
        runs_table("What sentences say", runs, rates, SAID),
        runs_table("Yes or no", runs, rates, YES_NO),
        runs_table("Gap of the right answer's log-probability to each negative, nats", runs, rates, GAPS),
    ]
    if any("verdict" in seed for seeds in record["runs"].values() for seed in seeds):
        tables.insert(0, runs_table("Yes-or-no questions that a sentence answers", record["runs"], rates, VERDICTS))
    notes = ["Learning rates are those that the core table chose for the same method."]
    if record["tuning"] is not None:
        tables.append(tuning_table(record["tuning"]))
        notes = [plan_note(record["plan"]), *edge_notes(record["tuning"])]
    conditions = record["conditions"]
    picture = rows_plot({titles()[row]: runs[row] for row in runs}) if runs else b""
    pictures = [{"file": written_picture(output, f"vista-{name}", picture), "text": ROWS_PICTURE}] if runs else []
    return Page(
        title=f"VistaDPO: {record['title'][0].lower()}{record['title'][1:]}",
        command=f"python -m benchmarks.toy.study_vista --rows {name}",
        order=40,
        conditions=base_conditions_table(conditions) if conditions else None,
        tables=tables if runs else [],
        pictures=pictures,
        notes=[*notes, *failed_bases_notes(conditions)],
        made_with=made_with(record),
        data={key: value for key, value in record.items() if key != "commands"},
    )


def conditions_table(conditions: Sequence[Mapping[str, Any]]) -> PageTable:
    """The conditions of the base model."""
    rows = []
    for item in conditions:
        condition = Condition(item["name"], item["value"], item["least"], item["most"])
        holds = "-" if condition.is_free else "yes" if condition.holds else "**no**"
        rows.append([condition.name, f"{condition.value:.3f}", condition.bound, holds])
    return PageTable("Conditions, checked before any fit", ["condition", "base", "bound", "holds"], rows)


def base_conditions_table(conditions: Mapping[str, Sequence[Mapping[str, Any]]]) -> PageTable:
    """The conditions of the base models of rows: base -> its conditions."""
    columns = [conditions_table(of_base).rows for of_base in conditions.values()]
    rows = []
    for name, *cells in zip((row[0] for row in columns[0]), *columns, strict=True):
        values = [f"{value}{' **no**' if holds == '**no**' else ''}" for _, value, _, holds in cells]
        rows.append([name, *values, cells[0][2]])
    return PageTable("Conditions, checked before any fit", ["condition", *conditions, "bound"], rows)


def failed_bases_notes(conditions: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """The base models of rows whose conditions fail."""
    return [
        f"Conditions of {base} fail ({'; '.join(failed)}): nothing was fitted from it, and that is the result."
        for base, of_base in conditions.items()
        if (failed := [item["name"] for item in of_base if not item["holds"]])
    ]


def runs_table(
    title: str,
    runs: Mapping[str, Sequence[Mapping[str, float]]],
    rates: Mapping[str, float],
    columns: Mapping[str, str],
) -> PageTable:
    """A line for each run: its learning rate, and the mean of its numbers with their range."""
    names = titles()
    rows = [
        [names[name], f"{rates[name]:g}" if name in rates else "-", *(spread(seeds, key) for key in columns)]
        for name, seeds in runs.items()
    ]
    return PageTable(title, ["run", "rate", *columns.values()], rows)


def tuning_table(tuning: Mapping[str, Any]) -> PageTable:
    """Every try; the chosen rate's is bold."""
    grid, names = [f"{rate:g}" for rate in tuning["grid"]], titles()
    rows = []
    for name, tries in tuning["tries"].items():
        chosen = f"{tuning['best'][name]:g}"
        cells = [Cell(f"{tries[rate]:.3f}", None, rate == chosen) for rate in grid]
        rows.append(Row(names[name], "", cells))
    return PageTable.of("Learning rates: facts stated rightly on the validation seed", Table(("run", *grid), rows))


def plan_note(plan: Mapping[str, Any]) -> str:
    """What was fixed before any fit."""
    grid = ", ".join(f"{rate:g}" for rate in plan["grid"])
    return (
        f"Learning rates: {plan['criterion']}, seed {plan['validation_seed']}; the grid was {grid} for every method, "
        "and grew for every one where one's best was at its edge. Controls take the rate of their method. A seed "
        "decides rows, videos, negatives, order and the adapter's first weights."
    )


def edge_notes(tuning: Mapping[str, Any]) -> list[str]:
    """The methods whose best rate is at the edge of the longest grid."""
    names = titles()
    at_edge = ", ".join(names[name] for name in tuning["at_edge"])
    return [f"At the edge of the longest grid that is tried: {at_edge}."] if at_edge else []


def order_notes(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """On how many seeds VistaDPO is above each other method, by counter-prior facts and by yes-or-no pairs."""
    names, notes = titles(), []
    for key, words in (("stated_counter", "counter-prior facts stated rightly"), ("overall", "yes-or-no pairs right")):
        parts = []
        for name in ("sft", "dpo", "dpo-compute"):
            pairs = list(zip(runs["vista"], runs[name], strict=True))
            above = sum(vista[key] > other[key] for vista, other in pairs)
            parts.append(f"{names[name]} on {above} of {len(pairs)} seeds")
        notes.append(f"By {words}, VistaDPO is above {', '.join(parts)}.")
    return notes


def spread(seeds: Sequence[Mapping[str, float]], key: str) -> str:
    """Mean of a score over seeds, with the smallest and the largest; "-" where no seed has it."""
    values = [seed[key] for seed in seeds if key in seed]
    if not values:
        return "-"
    return f"{sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def write_page(page: Page, output: Path, name: str) -> Path:
    """Write the part into the study's folder, and print it as Markdown beside it."""
    path = page.write(output, name)
    (output / f"{name}.md").write_text(page.markdown(), encoding="utf-8")
    return path
