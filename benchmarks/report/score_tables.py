"""Tables of several runs' benchmark results, with the paper's rows below them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.base.judge_replies import unparsed_cell, unparsed_warning
from benchmarks.base.paper_tables import PaperRow
from benchmarks.base.results import marks, number_at, shown, unit_of
from benchmarks.report.charts import color_of
from benchmarks.report.differences import difference, unpaired
from benchmarks.report.runs import HALLUCER, Run, Tested
from benchmarks.report.tables import Cell, Row, Table, shares

HEADER = ("run", "basic, %", "hallucinated, %", "overall, %", "reward accuracy, %", "AUC, 0 to 1", "yes bias, %")
#: Addresses of the header's first columns in the results.
ADDRESSES = ("all/basic_accuracy", "all/halluc_accuracy", "all/accuracy")
#: The column of unread replies, after a run's numbers that a judge makes.
UNPARSED = "unparsed"
#: The colour of rows that are no runs of ours.
GREY = "#808080"
NO_COLOR = "transparent"


def main_table(runs: Sequence[Run], paper: Sequence[PaperRow] = ()) -> Table:
    """VideoHallucer's scores and the rewards' accuracy; a dash where nothing was measured."""
    accuracies = [[number_at(run.results or {}, address) for run in runs] for address in ADDRESSES]
    rewards = [run.reward_accuracy for run in runs]
    aucs = [(run.details.get("auc") or {}).get("all") for run in runs]
    biases = [run.details["bias"]["all"]["pct_diff"] if run.details else None for run in runs]
    columns = [shares(column, "percent", bars=True) for column in (*accuracies, rewards)]
    columns.append(shares(aucs, "plain", bars=True))
    columns.append([Cell("-" if bias is None else f"{100 * bias:+.1f}") for bias in biases])
    published = []
    for row in paper:
        if numbers := _numbers(row, HALLUCER):
            texts = [numbers.get(address, "-") for address in ADDRESSES]
            # The other columns are of rewards, margins and bias, of which the papers' tables have none.
            texts += ["-"] * (len(columns) - len(texts))
            published.append(Row(_title(row), GREY, [Cell(text) for text in texts]))
    return Table(HEADER, [*_rows(runs, columns), *published])


def subset_table(runs: Sequence[Run]) -> Table:
    """VideoHallucer's overall accuracy by subset, in percent; without rows when no run was tested."""
    tested = [run for run in runs if run.results]
    subsets = dict.fromkeys(subset for run in tested for subset in run.results or {})
    overall = [[(run.results or {}).get(subset, {}).get("accuracy") for run in runs] for subset in subsets]
    columns = [shares(column, "percent", bars=False) for column in overall]
    return Table(("run", *subsets), _rows(runs, columns) if tested else [])


def interval_tables(runs: Sequence[Run], paper: Sequence[PaperRow] = ()) -> dict[str, Table]:
    """Benchmark -> table of a row for each number: its unit, every run's with its interval, differences, papers'.

    The first run is the base that the others are compared with, see `differences`. A number that is not what its name
    says has its mark. A benchmark without intervals is left out.
    """
    by_benchmark: dict[str, Table] = {}
    for benchmark, tests in _tests(runs).items():
        published = {_title(row): numbers for row in paper if (numbers := _numbers(row, benchmark))}
        (base_name, base), *tuned = tests
        differences = {f"{name} minus {base_name}": difference(base, test) for name, test in tuned}
        # Results of an earlier version do not say it; theirs are shares.
        percent = base.about.get("percent", True)
        rows = [
            Row(
                address,
                NO_COLOR,
                [
                    Cell(unit_of(address, percent)),
                    *(cell for _, test in tests for cell in _cells(test, address)),
                    *(Cell(gain.text(address, percent)) for gain in differences.values()),
                    *(Cell(numbers.get(address, "-")) for numbers in published.values()),
                ],
            )
            for address in dict.fromkeys(address for _, test in tests for address in test.headlines)
        ]
        if rows and any(test.intervals for _, test in tests):
            names = [title for name, test in tests for title in (name, *([UNPARSED] if test.unparsed else []))]
            by_benchmark[benchmark] = Table(("score", "unit", *names, *differences, *published), rows)
    return by_benchmark


def _tests(runs: Sequence[Run]) -> dict[str, list[tuple[str, Tested]]]:
    """Benchmark -> name and results of every run that was tested on it."""
    names = dict.fromkeys(name for run in runs for name in run.tests)
    return {name: [(run.name, run.tests[name]) for run in runs if name in run.tests] for name in names}


def _cells(tested: Tested, address: str) -> list[Cell]:
    """A run's number with its interval and mark and, where a judge was asked, how many replies could not be read."""
    value, ends = number_at(tested.results, address), tested.intervals.get(address)
    text = "-"
    if value is not None:
        percent = tested.about.get("percent", True)
        interval = f" ({shown(address, ends[0], percent)} to {shown(address, ends[1], percent)})" if ends else ""
        mark = marks(tested.about).get(address)
        text = shown(address, value, percent) + interval + (f", {mark}" if mark else "")
    replies = [Cell(unparsed_cell(tested.unparsed.get(address)))] if tested.unparsed else []
    return [Cell(text), *replies]


def _rows(runs: Sequence[Run], columns: Sequence[Sequence[Cell]]) -> list[Row]:
    return [Row(run.name, color_of(index), [column[index] for column in columns]) for index, run in enumerate(runs)]


def _numbers(row: PaperRow, benchmark: str) -> dict[str, str]:
    """Score's address -> the published number, as printed."""
    return {
        column.score or "": f"{value:.{column.digits}f}" for column, value in row.of(benchmark) if value is not None
    }


def _title(row: PaperRow) -> str:
    return f"{row.name}, {row.table.source}"


def notes(runs: Sequence[Run]) -> list[str]:
    """Remarks for a reader of the tables: left-out questions, proxies, other questions or papers.

    A remark about several runs comes once, after their names.
    """
    lines = []
    for benchmark, tests in _tests(runs).items():
        names_of: dict[str, list[str]] = {}
        for name, test in tests:
            for remark in _remarks(test):
                names_of.setdefault(remark, []).append(name)
        (base_name, base), *tuned = tests
        for name, test in tuned:
            if test.intervals and base.intervals and (reason := unpaired(base, test)):
                names_of.setdefault(f"no interval of the difference to {base_name}: {reason}", []).append(name)
        lines += [f"{', '.join(names)}: {remark}." for remark, names in names_of.items()]
        # Results of recorded answers and of folders of videos have no annotations, and are not compared so.
        hashes = {
            tuple(sorted((part, source["sha256"]) for part, source in test.details["annotations"].items()))
            for _, test in tests
            if test.details.get("annotations")
        }
        if len(hashes) > 1:
            lines.append(
                f"{benchmark}: the runs were tested on different questions, so their numbers cannot be compared."
            )
    return list(dict.fromkeys(lines))


def _remarks(test: Tested) -> Iterator[str]:
    """Remarks on one run's test, without full stops."""
    if skipped := test.details.get("skipped"):
        yield f"{len(skipped)} questions were left out, because their video or their answer is missing or damaged"
    if warning := unparsed_warning(test.unparsed):
        yield warning
    yield from test.about.get("remarks", ())
    if reasons := test.about.get("paper", {}).get("not_comparable"):
        yield f"not comparable with {test.about['paper']['source']}: {'; '.join(reasons)}"
