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
