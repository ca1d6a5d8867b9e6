import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from benchmarks.base.results import number_at, provenance, shown, write_json


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_provenance_without_the_command_line_has_no_config() -> None:
    origin = provenance(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))
    assert origin["config"] is None
    assert {"torch", "transformers", "av"} <= set(origin["versions"])
    assert origin["devices"] == "1 x CPU"


def test_numbers_are_found_by_their_address_and_nothing_else_is() -> None:
    results = {"all": {"accuracy": 0.5, "videos": 3, "done": True, "name": "x"}, "total": 1}
    assert number_at(results, "all/accuracy") == 0.5
    assert number_at(results, "all/videos") == 3
    assert number_at(results, "total") == 1
    for address in ("all", "all/done", "all/name", "all/none", "none/accuracy", "total/accuracy", ""):
        assert number_at(results, address) is None


def test_shares_are_shown_in_percent_and_judges_scores_as_they_are() -> None:
    assert shown("all/accuracy", 0.5432) == "54.3"
    assert shown("all/average_score", 3.456) == "3.46"
    assert shown("text_alignment", -0.1667, percent=False) == "-0.167", "VisionReward's are no shares"
