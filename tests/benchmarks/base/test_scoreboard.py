"""What a person reads in the terminal when a test is over."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from benchmarks.base.scoreboard import scoreboard


def shown(unparsed: dict[str, list[int]], **more: Any) -> str:
    results = {"accuracy": 1.0, "exact_match": {"All": 0.2}}
    intervals = {"level": 0.95, "of": {"accuracy": [0.9, 1.0], "exact_match/All": [0.1, 0.3]}}
    about = {"intervals": intervals, "left_out": 0, "limit": None, "unparsed": unparsed, **more}
    console = Console(width=200, file=io.StringIO())
    console.print(scoreboard("MSVD-QA", results, about))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if name in line)
    return [cell.strip() for cell in line.strip("\u2502 ").split("\u2502")]


def test_unread_replies_stand_beside_the_numbers_that_a_judge_makes() -> None:
    text = shown({"accuracy": [20, 40]})
    assert "unparsed" in text
    assert row(text, "accuracy")[-1] == "20 of 40"
    assert row(text, "exact_match/All")[-1] == "-"


@pytest.mark.parametrize(("unread", "warned"), [(20, True), (3, True), (2, False), (0, False)])
def test_above_five_percent_they_are_warned_of(unread: int, warned: bool) -> None:
    text = shown({"all/average_score": [unread, 40], "accuracy": [0, 40], "none": [0, 0]})
    warning = f"Warning: {unread} of 40 replies of the judge ({unread / 40:.0%}) behind all/average_score could not"
    assert (warning in text) == ("Warning" in text) == warned


def test_without_a_judge_there_is_no_such_column_and_remarks_are_sentences() -> None:
    assert "unparsed" not in shown({})
    assert "\nThe judge was asked in other words.\n" in shown({}, remarks=["the judge was asked in other words"])


def test_every_number_is_shown_and_what_is_not_what_its_name_says_is_marked() -> None:
    """A proxy, a merged number without an interval, pixels, and a proxy beside the paper's number."""
    number = {"column": "DD", "score": "dynamic_degree", "ours": 80.0, "paper": 85.38, "difference": -5.38, "digits": 2}
    about = {
        "headlines": ["dynamic_degree", "scene", "mean_flow", "of_proxies/total", "not measured"],
        "marks": {"scene": "merged", "mean_flow": "proxy", "of_proxies/total": "of proxies, not VBench's"},
        "networks": {"dynamic_degree": {"proxy": True}, "temporal_flickering": {"proxy": False}},
        "intervals": {"level": 0.95, "of": {"dynamic_degree": [0.7, 0.9]}},
        "left_out": 0,
        "limit": None,
        "paper": {"source": "DenseDPO, table 1", "row": "DenseDPO", "columns": "VBench", "numbers": [number],
                  "not_comparable": []},
    }  # fmt: skip
    results = {"dynamic_degree": 0.8, "scene": 0.5, "mean_flow": 3.456, "of_proxies": {"total": 0.4}}
    console = Console(width=200, file=io.StringIO())
    console.print(scoreboard("VBench", results, about))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert row(text, "dynamic_degree")[1:] == ["80.0", "70.0 to 90.0", "proxy"]
    assert row(text, "scene")[1:] == ["50.0", "-", "merged"]
    assert row(text, "mean_flow")[1:] == ["3.46", "-", "proxy"]
    assert row(text, "of_proxies/total")[1:] == ["40.0", "-", "of proxies, not VBench's"]
    assert row(text, "DD")[1:] == ["80.00 (proxy)", "85.38", "-5.38"]
    assert "not measured" not in text
