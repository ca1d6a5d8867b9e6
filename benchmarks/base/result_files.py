"""The files of a finished benchmark: published predictions, the results with what they belong to, and the details."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.base.bootstrap import recorded_units
from benchmarks.base.paper_protocol import Protocol
from benchmarks.base.results import (
    ABOUT,
    DETAILS_FILE,
    RESULTS_FILE,
    number_at,
    provenance,
    run_about,
    write_json,
    write_units,
)
from benchmarks.base.scoreboard import scoreboard

if TYPE_CHECKING:
    from benchmarks.base.benchmark import Benchmark, Predictions


def write_results(
    benchmark: Benchmark, predictions: Predictions, results: dict[str, Any], skipped: Mapping[str, str]
) -> None:
    """Write the files into the benchmark's output, and print the scores; on rank 0.

    Args:
        benchmark: after its test.
        predictions: of all ranks, see `Benchmark.predictions_of`.
        results: the published result format.
        skipped: question's key -> why it was left out.
    """
    questions, output = benchmark.questions, benchmark.output
    for name, content in benchmark.files(predictions).items():
        write_json(output / name, content)
    facts = provenance(benchmark.trainer)
    with recorded_units() as units:
        about = _about(benchmark, predictions, results, skipped, facts)
    scored = [questions.everything[key] for key in questions.asked if key not in skipped]
    write_units(output, [(question.key, question.fingerprint) for question in scored], units)
    details = {
        "benchmark": benchmark.title,
        "name": benchmark.name,
        **questions.settings(),
        "annotations": about["annotations"],
        "skipped": dict(sorted(skipped.items())),
        "parameters": about["parameters"],
        **benchmark.details(predictions),
        **facts,
    }
    write_json(output / DETAILS_FILE, details)
    # Last: a folder with results has everything else.
    write_json(output / RESULTS_FILE, {**results, ABOUT: about})
    Console().print(scoreboard(benchmark.title, results, about))


def _about(
    benchmark: Benchmark,
    predictions: Predictions,
    results: Mapping[str, Any],
    skipped: Mapping[str, str],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """What the numbers belong to."""
    questions = benchmark.questions
    drawn = benchmark.intervals(predictions, facts["seed"] or 0)
    # A score may have an interval in a part that the results leave out.
    intervals = {address: ends for address, ends in drawn.items() if number_at(results, address) is not None}
    about: dict[str, Any] = {
        "benchmark": benchmark.title,
        "protocol": benchmark.how_measured(),
        "annotations": {
            part: {**source, "scored": len(predictions.get(part, ()))} for part, source in questions.sources().items()
        },
        "left_out": len(skipped),
        "recorded": None if benchmark.predictions is None else benchmark.recorded_answers.counts(),
        "limit": questions.limit,
        "judge": benchmark.judge_name,
        "unparsed": {address: list(counts) for address, counts in benchmark.unparsed(results).items()},
        "remarks": list(benchmark.remarks),
        "percent": benchmark.percent,
        "parameters": _num_parameters(benchmark),
        **run_about(facts, intervals),
    }
    if benchmark.paper is not None:
        unread = 0 if benchmark.unread is None else int(number_at(results, benchmark.unread) or 0)
        protocol = Protocol.of_run(about, questions.settings(), unread)
        about["paper"] = benchmark.paper.compared(benchmark.title, results, protocol)
    return about


def _num_parameters(benchmark: Benchmark) -> int | None:
    """How large the model is; None where only its answers are known."""
    if benchmark.policy is None:
        return None
    if benchmark.questions.asked_now:
        return sum(parameter.numel() for parameter in benchmark.parameters()) or None  # a judge's endpoint has none
    # A finished test that is scored again loads no model: the earlier details have its size.
    details = benchmark.output / DETAILS_FILE
    number: int | None = json.loads(details.read_bytes()).get("parameters") if details.is_file() else None
    return number
