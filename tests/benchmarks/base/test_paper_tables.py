import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from benchmarks.base.paper_protocol import Protocol
from benchmarks.base.paper_tables import FOLDER, find_row, read_paper
from benchmarks.base.scoreboard import scoreboard
from benchmarks.ratings.videos import VisionReward

VISTA = "vista_dpo/table1/Video-LLaVA + VistaDPO"


def number(address: str, benchmark: str, score: str) -> float | None:
    return next(value for column, value in find_row(address, benchmark).of(benchmark) if column.score == score)


def test_every_table_is_there_with_its_number() -> None:
    vista, dense = (read_paper(FOLDER / f"{name}.yaml") for name in ("vista_dpo", "dense_dpo"))
    assert {table.number for table in vista.values()} == {"1", "2", "3", "4", "6"}
    assert {table.number for table in dense.values()} == {"1", "2", "3a", "3b", "4", "5", "6", "7", "8", "human study"}
    assert sum(len(table.rows) for table in (*vista.values(), *dense.values())) == 87
    assert all(column.meaning for table in (*vista.values(), *dense.values()) for column in table.columns)


@pytest.mark.parametrize(
    ("address", "benchmark", "score", "value"),
    [
        (VISTA, "VideoHallucer", "all/accuracy", 54.3),
        (VISTA, "EventHallusion", "all_but_misleading/description_accuracy", 12.1),
        ("vista_dpo/table1/PLLaVA", "EventHallusion", "misleading/binary_accuracy", 81.4),
        ("vista_dpo/table2/LLaMA-Adapter", "TGIF-QA", "accuracy", None),
        ("vista_dpo/table2/Video-LLaVA + VistaDPO", "Video-ChatGPT", "context/average_score", 3.6),
        ("vista_dpo/table3/w/o L_o, L_t", "VideoHallucer", "all/accuracy", 49.4),
        ("vista_dpo/table6/PLLaVA", "MVBench", "all/accuracy", 46.6),
        ("dense_dpo/table1/DenseDPO", "VBench", "dynamic_degree", 85.38),
        ("dense_dpo/table2/VanillaDPO", "VisionReward", "dynamic_degree", 0.709),
        ("dense_dpo/table4/2x labels", "VisionReward", "visual_quality", 0.395),
    ],
)
def test_numbers_as_printed(address: str, benchmark: str, score: str, value: float | None) -> None:
    assert number(address, benchmark, score) == value


@pytest.mark.parametrize(
    ("address", "benchmark", "message"),
    [
        ("vista/table1/PLLaVA", "VideoHallucer", "no paper 'vista'.*dense_dpo, vista_dpo"),
        ("vista_dpo/table9/PLLaVA", "VideoHallucer", "no table 'table9'"),
        ("vista_dpo/table1/LLaVA", "VideoHallucer", "no row 'LLaVA'; it has: VideoChatGPT; "),
        ("vista_dpo/table6/PLLaVA", "VideoHallucer", "no number of VideoHallucer; it is about MVBench"),
        ("vista_dpo", "VideoHallucer", "no table ''"),
    ],
)
def test_an_address_that_leads_nowhere_says_what_there_is(address: str, benchmark: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_row(address, benchmark)


RESULTS = {"all": {"basic_accuracy": 0.9, "halluc_accuracy": 0.5, "accuracy": 0.553}}


def as_in_the_paper(**other: Any) -> Protocol:
    known = find_row(VISTA, "VideoHallucer").table.protocols["VideoHallucer"]
    return Protocol(**{"annotations": known.annotations, "settings": known.settings, "parameters": 7.4e9} | other)


def test_ours_beside_the_papers() -> None:
    comparison = find_row(VISTA, "VideoHallucer").compared("VideoHallucer", RESULTS, as_in_the_paper())
    assert comparison["source"] == "VistaDPO (arXiv 2504.13122), table 1"
    assert comparison["not_comparable"] == []
    overall = comparison["numbers"][2]
    assert (overall["ours"], overall["paper"]) == (pytest.approx(55.3), 54.3)
    assert overall["difference"] == pytest.approx(1.0)
    other = find_row(VISTA, "EventHallusion").compared("EventHallusion", {}, as_in_the_paper())
    assert {number["difference"] for number in other["numbers"]} == {None}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"annotations": {"temporal": "x"}}, "the paper has the parts obj_rel, .*this run temporal"),
        ({"settings": {"prompt": "{question}?"}}, "another prompt than the paper's"),
        ({"parameters": 1.4e6}, "the paper's model has 7.0 billion parameters, this one 1.4 million"),
        ({"parameters": None}, "the model behind these answers is not known"),
        ({"left_out": 3}, "3 questions were left out"),
        ({"limit": 5}, "only the first 5"),
    ],
)
def test_why_it_is_not_comparable(other: dict[str, Any], reason: str) -> None:
    comparison = find_row(VISTA, "VideoHallucer").compared("VideoHallucer", RESULTS, as_in_the_paper(**other))
    assert len(comparison["not_comparable"]) >= 1
    assert re.search(reason, "; ".join(comparison["not_comparable"]))


def test_another_version_of_one_subset_is_named() -> None:
    known = as_in_the_paper().annotations
    assert known is not None
    comparison = find_row(VISTA, "VideoHallucer").compared(
        "VideoHallucer", RESULTS, as_in_the_paper(annotations={**known, "temporal": "176 pairs"})
    )
    assert comparison["not_comparable"] == ["other questions than the paper's in temporal"]


def test_a_judge_matters_where_it_had_a_say() -> None:
    row = find_row(VISTA, "EventHallusion")
    known = row.table.protocols["EventHallusion"]
    ours = Protocol(annotations=known.annotations, settings=known.settings, parameters=7e9, judge="somebody")
    assert row.compared("EventHallusion", {"all": {"binary_accuracy": 0.5}}, ours)["not_comparable"] == []
    (reason,) = row.compared("EventHallusion", {"entire": {"description_accuracy": 0.5}}, ours)["not_comparable"]
    assert "this run's somebody" in reason


def as_in_table6(**other: Any) -> Protocol:
    known = find_row("vista_dpo/table6/Video-LLaVA", "MVBench").table.protocols["MVBench"]
    return Protocol(**{"questions": known.questions, "settings": known.settings, "parameters": 7e9} | other)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({}, []),
        ({"questions": {"action_count": 6}}, [r"the paper has the parts .*state_change, .*this run action_count$",
                                              "the paper has 200 questions in action_count, this run's file 6"]),
        ({"unread": 4}, ["4 replies could not be read"]),
    ],
)  # fmt: skip
def test_where_no_files_are_known_parts_and_counts_are_compared(other: dict[str, Any], expected: list[str]) -> None:
    row = find_row("vista_dpo/table6/Video-LLaVA", "MVBench")
    reasons = row.compared("MVBench", {"all": {"accuracy": 0.5}}, as_in_table6(**other))["not_comparable"]
    first, *others = reasons
    assert first.startswith("the paper does not say with which prompt it asked"), "however a run asks"
    assert len(others) == len(expected)
    assert all(re.search(pattern, reason) for pattern, reason in zip(expected, others, strict=True))


def test_every_question_benchmark_of_vistadpo_has_a_protocol() -> None:
    protocols = read_paper(FOLDER / "vista_dpo.yaml")["table2"].protocols
    assert all(
        (protocol.annotations or protocol.questions) and (protocol.settings or protocol.remarks)
        for protocol in protocols.values()
    )
    assert (protocols["ActivityNet-QA"].questions, protocols["ActivityNet-QA"].settings) == (
        {"activitynet_qa": 8000}, {"prompt": "{question}", "capitalize": False},
    )  # fmt: skip


def test_where_nothing_is_known_that_is_said() -> None:
    assert next(Protocol().differences(Protocol(), judged=False)) == "how the paper asked is not known here"


def test_no_number_of_densedpo_is_comparable() -> None:
    comparison = find_row("dense_dpo/table2/DenseDPO", "VBench").compared("VBench", {"dynamic_degree": 0.8}, Protocol())
    assert {"the paper's base model is not public", "the paper's prompts are not public"} <= set(
        comparison["not_comparable"]
    )
    assert next(number for number in comparison["numbers"] if number["column"] == "DD")["ours"] == 80


def test_the_scoreboard_shows_intervals_paper_and_reasons() -> None:
    about = {
        "intervals": {"level": 0.95, "of": {"all/accuracy": [0.5, 0.6]}},
        "left_out": 2,
        "limit": 4,
        "paper": find_row(VISTA, "VideoHallucer").compared("VideoHallucer", RESULTS, as_in_the_paper(limit=4)),
    }
    console = Console(width=120, record=True, quiet=False, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(scoreboard("VideoHallucer", RESULTS, about))
    text = console.export_text()
    for words in ("95% interval", "50.0 to 60.0", "55.3", "54.3", "+1.0", "Not comparable with the paper", "first 4",
                 "2 questions were left out"):  # fmt: skip
        assert words in text


def test_the_scoreboard_leaves_numbers_that_are_no_shares_as_they_are() -> None:
    ends = {"level": 0.95, "of": {"text_alignment": [-1, 0.5]}}
    console = Console(width=120, record=True, file=io.StringIO())
    about = {"intervals": ends, "left_out": 0, "limit": None, "percent": VisionReward.percent}
    console.print(scoreboard("VisionReward", {"text_alignment": -0.1667}, about))
    text = console.export_text()
    assert "-0.167" in text
    assert "-1.000 to 0.500" in text


def test_every_fault_of_a_paper_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    content = {
        "paper": "P", "arxiv": "1",
        "columns": {"a": {"meaning": "share"}, "b": {"benchmark": "X", "unit": "m"}},
        "tables": {"t": {"number": 1, "title": "T", "columns": ["a", "b", "c"], "rows": {"r": [101], "s": ["x", 1, 2]}},
                   "u": {"columns": ["a"], "rows": {}}},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="faults") as error:
        read_paper(path)
    for fault in ("column b: no field unit", "belong together", "t: no column c", "row r: 1 numbers for 3 columns",
                 "a is 101, not from 0 to 100", "a is 'x'", "u: needs its number"):  # fmt: skip
        assert fault in str(error.value)
