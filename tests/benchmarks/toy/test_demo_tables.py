import json
from pathlib import Path

import pytest

from benchmarks.toy import demo
from benchmarks.toy.vista.page import SAID


def write_scores(output: Path, value: float) -> None:
    for place, name in enumerate(demo.TITLES):
        (output / name).mkdir()
        (output / name / demo.SCORES).write_text(json.dumps(dict.fromkeys(SAID, value + place / 10)))


def test_the_demos_seed_is_shown_beside_the_studys_mean_and_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scores(tmp_path, 0.2)
    study = tmp_path / "vista.json"
    seeds = [dict.fromkeys(SAID, value) for value in (0.5, 0.6, 0.7)]
    study.write_text(json.dumps({"data": {"runs": {"base": seeds, "vista": seeds, "sft": seeds}}}))
    monkeypatch.setattr(demo, "STUDY", study)
    table = demo.said_table(demo.said_scores(tmp_path))
    rows = {row.name: row.cells[0].text for row in table.rows}
    assert rows == {
        "the base model": "0.200",
        "plain DPO": "0.300",
        "VistaDPO": "0.400",
        "the base model, in the study": "0.600 (0.500 to 0.700)",
        "VistaDPO, in the study": "0.600 (0.500 to 0.700)",
    }


def test_without_a_studys_results_the_demo_shows_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scores(tmp_path, 0.2)
    monkeypatch.setattr(demo, "STUDY", tmp_path / "none.json")
    assert list(demo.said_scores(tmp_path)) == list(demo.TITLES.values())
