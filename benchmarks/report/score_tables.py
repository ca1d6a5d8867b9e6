"""Several runs' benchmark results beside each other, with the paper's rows below them."""

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
#: Where the first columns of the header are in the results.
ADDRESSES = ("all/basic_accuracy", "all/halluc_accuracy", "all/accuracy")
#: The column behind a run's numbers that a judge's replies are made into.
UNPARSED = "unparsed"
#: The colour of what is not a run of ours.
GREY = "#808080"
NO_COLOR = "transparent"


def main_table(runs: Sequence[Run], paper: Sequence[PaperRow] = ()) -> Table:
    """VideoHallucer and the reward's accuracy; a dash stands for what was not measured."""
    accuracies = [[number_at(run.results or {}, address) for run in runs] for address in ADDRESSES]
    rewards = [run.reward_accuracy for run in runs]
    aucs = [(run.details.get("auc") or {}).get("all") for run in runs]
    leans = [run.details["bias"]["all"]["pct_diff"] if run.details else None for run in runs]
    columns = [shares(column, "percent", bars=True) for column in (*accuracies, rewards)]
    columns.append(shares(aucs, "plain", bars=True))
    columns.append([Cell("-" if lean is None else f"{100 * lean:+.1f}") for lean in leans])
    return Table(HEADER, [*_rows(runs, columns), *_paper_rows(paper, HALLUCER, ADDRESSES, len(HEADER) - 1)])


def subset_table(runs: Sequence[Run]) -> Table:
    """VideoHallucer's overall accuracy by subset, in percent; without rows when no run was tested."""
    tested = [run for run in runs if run.results]
    subsets = dict.fromkeys(subset for run in tested for subset in run.results or {})
    overall = [[(run.results or {}).get(subset, {}).get("accuracy") for run in runs] for subset in subsets]
    columns = [shares(column, "percent", bars=False) for column in overall]
    return Table(("run", *subsets), _rows(runs, columns) if tested else [])


def interval_tables(runs: Sequence[Run], paper: Sequence[PaperRow] = ()) -> dict[str, Table]:
    """Benchmark -> a row for each number: its unit, every run's with its interval, what the first run gained, papers'.

    The first run is the base that the others are compared with, see `differences`. A number that is not what its name
    says bears its mark. A benchmark without intervals is left out.
    """
    found: dict[str, Table] = {}
    for benchmark, tests in _tests(runs).items():
        published = {_named(row): numbers for row in paper if (numbers := _numbers(row, benchmark))}
        (base_name, base), *tuned = tests
        differences = {f"{name} minus {base_name}": difference(base, one) for name, one in tuned}
        percent = base.about.get("percent", True)
        rows = [
            Row(
                address,
                NO_COLOR,
                [
                    Cell(unit_of(address, percent)),
                    *(cell for _, one in tests for cell in _cells(one, address)),
                    *(Cell(one.text(address, percent)) for one in differences.values()),
                    *(Cell(numbers.get(address, "-")) for numbers in published.values()),
                ],
            )
            for address in dict.fromkeys(address for _, one in tests for address in one.headlines)
        ]
        if rows and any(one.intervals for _, one in tests):
            names = [title for name, one in tests for title in (name, *([UNPARSED] if one.unparsed else []))]
            found[benchmark] = Table(("score", "unit", *names, *differences, *published), rows)
    return found


def _tests(runs: Sequence[Run]) -> dict[str, list[tuple[str, Tested]]]:
    """Benchmark -> name and results of every run that was tested on it."""
    names = dict.fromkeys(name for run in runs for name in run.tests)
    return {name: [(run.name, run.tests[name]) for run in runs if name in run.tests] for name in names}


def _cells(tested: Tested, address: str) -> list[Cell]:
    """A run's number with its interval and mark and, where a judge was asked, how many replies could not be read."""
    replies = [Cell(unparsed_cell(tested.unparsed.get(address)))] if tested.unparsed else []
    return [_with_interval(tested, address), *replies]


def _with_interval(tested: Tested, address: str) -> Cell:
    value, ends = number_at(tested.results, address), tested.intervals.get(address)
    if value is None:
        return Cell("-")
    percent = tested.about.get("percent", True)
    within = f" ({shown(address, ends[0], percent)} to {shown(address, ends[1], percent)})" if ends else ""
    mark = marks(tested.about).get(address)
    return Cell(shown(address, value, percent) + within + (f", {mark}" if mark else ""))


def _rows(runs: Sequence[Run], columns: Sequence[Sequence[Cell]]) -> list[Row]:
    return [Row(run.name, color_of(number), [column[number] for column in columns]) for number, run in enumerate(runs)]


def _paper_rows(paper: Sequence[PaperRow], benchmark: str, addresses: Sequence[str], cells: int) -> list[Row]:
    """A row for each published one that has numbers of the benchmark."""
    found = []
    for row in paper:
        if numbers := _numbers(row, benchmark):
            texts = [numbers.get(address, "-") for address in addresses]
            texts += ["-"] * (cells - len(texts))
            found.append(Row(_named(row), GREY, [Cell(text) for text in texts]))
    return found


def _numbers(row: PaperRow, benchmark: str) -> dict[str, str]:
    """Score's address -> the published number, as printed."""
    return {
        column.score or "": f"{value:.{column.digits}f}" for column, value in row.of(benchmark) if value is not None
    }


def _named(row: PaperRow) -> str:
    return f"{row.name}, {row.table.source}"


def notes(runs: Sequence[Run]) -> list[str]:
    """What a reader of the tables must know: left-out questions, proxies, other questions or papers.

    What is the same for several runs is said once, with their names before it.
    """
    found = []
    for benchmark, tests in _tests(runs).items():
        said: dict[str, list[str]] = {}
        for name, one in tests:
            for remark in _remarks(one):
                said.setdefault(remark, []).append(name)
        (base_name, base), *tuned = tests
        for name, one in tuned:
            if one.intervals and base.intervals and (why := unpaired(base, one)):
                said.setdefault(f"no interval of the difference to {base_name}: {why}", []).append(name)
        found += [f"{', '.join(names)}: {remark}." for remark, names in said.items()]
        hashes = {
            tuple(sorted((part, source["sha256"]) for part, source in one.details["annotations"].items()))
            for _, one in tests
            if one.details.get("annotations")
        }
        if len(hashes) > 1:
            found.append(
                f"{benchmark}: the runs were tested on different questions, so their numbers cannot be compared."
            )
    return list(dict.fromkeys(found))


def _remarks(one: Tested) -> Iterator[str]:
    """What a reader must know of one run's test, without a full stop."""
    if skipped := one.details.get("skipped"):
        yield f"{len(skipped)} questions were left out, because their video or their answer is missing or damaged"
    if warning := unparsed_warning(one.unparsed):
        yield warning
    yield from one.about.get("remarks", ())
    if reasons := one.about.get("paper", {}).get("not_comparable"):
        yield f"not comparable with {one.about['paper']['source']}: {'; '.join(reasons)}"
