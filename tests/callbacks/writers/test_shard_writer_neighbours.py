"""Files beside those of a shard writer, whose names look like its own: none is used, changed or removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from callbacks.writers.shards import ShardWriter
from datamodules.shards.index import Index
from tests.support.predict_fakes import Maker, Source, predict
from tests.support.shard_writer_runs import KEYS, killed_when_joined, names, run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def test_shards_of_others_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out-000000.tar").write_text("precious")
    with pytest.raises(ValueError, match=r"out-000000\.tar lie in the way"):
        run(tmp_path)
    assert (tmp_path / "out-000000.tar").read_text() == "precious"


#: Names that share their beginning with those of an output called `out`, or look like them.
NEIGHBOURS = [
    "out-part1-000000.tar",
    "out-part1.index.json",
    "out-000000-000000.tar",
    "out-000000.tar.bak",
    "out-00000.tar",
    "out-000000.tar.tmp-mine",
    "outer-000000.tar",
    "out.parts.bak",
    "out.index.json.bak",
]


def write_neighbours(folder: Path) -> dict[str, str]:
    for name in NEIGHBOURS:
        (folder / name).write_text(f"precious {name}")
    return {name: f"precious {name}" for name in NEIGHBOURS}


def test_neighbours_outlive_an_interrupted_and_a_finished_run(tmp_path: Path, monkeypatch: Any) -> None:
    neighbours = write_neighbours(tmp_path)
    run(tmp_path, Maker(fails_at="d"))

    monkeypatch.setattr("datamodules.shards.commit.sync_folder", killed_when_joined())
    run(tmp_path)
    monkeypatch.undo()
    run(tmp_path)
    assert run(tmp_path).made == []
    assert {name: (tmp_path / name).read_text() for name in NEIGHBOURS} == neighbours
    assert names(tmp_path) == sorted([*NEIGHBOURS, "out-000000.tar", "out-000001.tar", "out.index.json"])


def test_shards_that_appeared_beside_a_begun_run_are_not_touched(tmp_path: Path) -> None:
    run(tmp_path, Maker(fails_at="d"))
    (tmp_path / "out-000000.tar").write_text("precious")
    with pytest.raises(ValueError, match=r"out-000000\.tar lie in the way"):
        run(tmp_path)
    assert (tmp_path / "out-000000.tar").read_text() == "precious"

    class Late(Maker):
        def on_predict_start(self) -> None:
            (tmp_path / "out-000000.tar").write_text("precious")

    (tmp_path / "out-000000.tar").unlink()
    with pytest.raises(ValueError, match=r"out-000000\.tar lies in the way"):
        run(tmp_path, Late())
    with pytest.raises(ValueError, match=r"out-000000\.tar lie in the way"):
        run(tmp_path)
    assert (tmp_path / "out-000000.tar").read_text() == "precious"
    (tmp_path / "out-000000.tar").rename(tmp_path / "mine.tar")
    assert run(tmp_path).made == [], "the samples were not lost"


def test_a_folder_of_somebody_else_under_the_name_of_the_parts_is_not_touched(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "out.parts").mkdir()
    (tmp_path / "out.parts/train-000000.tar").write_text("precious")
    with pytest.raises(ValueError, match=r"out\.parts/train-000000\.tar lie in the way"):
        run(tmp_path)
    assert names(tmp_path / "out.parts") == ["train-000000.tar"]


def test_a_file_that_somebody_put_among_the_parts_is_left_and_named(tmp_path: Path) -> None:
    run(tmp_path, Maker(fails_at="d"))
    (tmp_path / "out.parts/notes.txt").write_text("precious")
    with pytest.warns(UserWarning, match=r"out\.parts is left where it is: notes\.txt"):
        run(tmp_path)
    assert names(tmp_path / "out.parts") == ["notes.txt"]
    assert [entry.key for entry in Index.read(tmp_path / "out.index.json").entries] == KEYS


@pytest.mark.parametrize("name", ["tr[ai]n", "a*b", "what?", "100%d", "[!x]"])
def test_an_output_may_be_called_like_a_pattern(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    for other in ("tran", "train", "aab", "whats", "y"):  # what the pattern would find
        (tmp_path / f"{other}-000000.tar").write_text("precious")

    def again(module: Maker | None = None) -> Maker:
        module = module or Maker()
        predict(ShardWriter(str(tmp_path / name), 4), module, Source(KEYS))
        return module

    again(Maker(fails_at="d"))

    monkeypatch.setattr("datamodules.shards.commit.sync_folder", killed_when_joined(name))
    assert again().made == KEYS[4:]
    monkeypatch.undo()
    assert again().made == []
    assert [entry.key for entry in Index.read(tmp_path / f"{name}.index.json").entries] == KEYS
    left = [f"{other}-000000.tar" for other in ("tran", "train", "aab", "whats", "y")]
    assert names(tmp_path) == sorted([*left, f"{name}-000000.tar", f"{name}-000001.tar", f"{name}.index.json"])
