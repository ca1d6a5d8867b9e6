"""Predicted rows as JSON lines: order, continuing, counts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from callbacks.writers.jsonl import JsonlWriter
from datamodules.stream.predict_outputs import WrittenRow
from tests.support.answered_videos import read
from tests.support.predict_fakes import Maker, Source, predict

KEYS = ["b", "a", "d", "c", "e"]


class RowMaker(Maker):
    """A row is its key; "a" is left out."""

    def sample(self, key: str) -> Any:
        kept = key != "a"
        outcomes = {"boxes": "kept" if kept else "below"}
        return WrittenRow(key, {"video": f"{key} \u2028"} if kept else None, outcomes, "" if kept else "it is a")


def run(folder: Path, module: RowMaker | None = None, data: Source | None = None) -> RowMaker:
    module = module or RowMaker()
    predict(JsonlWriter(str(folder / "out.jsonl")), module, data or Source(KEYS))
    return module


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


WRITTEN = ["out.jsonl", "out.left_out.jsonl", "out.report.json"]


def test_rows_come_in_the_sources_order_with_counts_beside_them(tmp_path: Path) -> None:
    run(tmp_path)
    assert names(tmp_path) == WRITTEN
    lines = (tmp_path / "out.jsonl").read_text().split("\n")
    assert [json.loads(line)["video"] for line in lines[:-1]] == [f"{key} \u2028" for key in "bdce"]
    assert read(tmp_path / "out.left_out.jsonl") == [{"key": "a", "why": "it is a"}]
    report = json.loads((tmp_path / "out.report.json").read_text())
    assert report["rows"] == {"written": 4, "left out": 1, "of which unread": 0}
    assert report["outcomes"] == {"boxes": {"kept": 4, "below": 1}}
    assert report["made_from"] == {"fingerprint": "source", "seed": 0, "sizes": [1, 2]}


def test_an_interrupted_run_goes_on_and_makes_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole")
    folder = tmp_path / "again"
    folder.mkdir()
    first = run(folder, RowMaker(fails_at="c"))
    assert first.made == KEYS[:2]
    assert names(folder) == ["out.jsonl.parts"]
    (folder / "out.jsonl.parts" / f".{'0' * 32}.tmp").write_bytes(b"half")
    second = run(folder, data=Source(KEYS, batch_size=1))
    assert second.made == KEYS[2:]
    assert names(folder) == WRITTEN
    assert all((folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in WRITTEN)


def test_a_kill_between_the_report_and_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: JsonlWriter) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JsonlWriter, "_remove_parts", killed)
    run(tmp_path)
    assert names(tmp_path) == ["out.jsonl", "out.jsonl.parts", *WRITTEN[1:]]
    (tmp_path / "out.jsonl").unlink()
    monkeypatch.undo()
    assert run(tmp_path).made == []
    assert names(tmp_path) == WRITTEN


def test_a_finished_run_makes_nothing_and_says_its_counts_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    before = [(tmp_path / name).read_bytes() for name in WRITTEN]
    capsys.readouterr()
    assert run(tmp_path).made == []
    assert [(tmp_path / name).read_bytes() for name in WRITTEN] == before
    said = capsys.readouterr().out
    assert said.startswith("rows: 4 written, 1 left out, 0 of which unread\n  boxes: 4 kept, 1 below\n")
    assert f"vidpref prepare jsonl {tmp_path / 'out.jsonl'} SHARDS" in said


def test_other_settings_and_files_of_others_are_refused(tmp_path: Path) -> None:
    run(tmp_path, RowMaker(fails_at="c"))
    with pytest.raises(ValueError, match=r"seed was 0, is 1.*take those settings again"):
        run(tmp_path, RowMaker(seed=1))
    run(tmp_path)
    with pytest.raises(ValueError, match=r"seed was 0, is 1.*choose another `output`"):
        run(tmp_path, RowMaker(seed=1))
    (tmp_path / "out.report.json").unlink()
    with pytest.raises(ValueError, match=r"out.jsonl, out.left_out.jsonl lie in the way"):
        run(tmp_path)


def test_no_row_is_left(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no row was kept, so there is nothing to write; .*out\.left_out\.jsonl says why"
    ):
        run(tmp_path, data=Source(["a"]))
    assert read(tmp_path / "out.left_out.jsonl") == [{"key": "a", "why": "it is a"}]
    with pytest.raises(ValueError, match="no row was kept"):
        run(tmp_path, data=Source(["a"]))


def test_another_ending() -> None:
    with pytest.raises(ValueError, match=r"JsonlWriter.output is rows.json; give a file that ends with .jsonl"):
        JsonlWriter("rows.json")
