"""Parts of a preparation, and their join: the same files as one run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datamodules.prepare.join import prepare_join
from datamodules.prepare.own_videos import prepare_jsonl
from datamodules.prepare.pairs import prepare_pairs
from datamodules.prepare.parts import Part, described
from datamodules.prepare.video_filters import Duration, Motion
from datamodules.prepare.videos import prepare_videos
from datamodules.prepare.vistadpo import prepare_vistadpo
from datamodules.shards.index import Index
from tests.support.annotated_videos import numbered_video
from tests.support.kills import contents

SHAPE: dict[str, Any] = {"num_frames": 5, "fps": 8.0, "height": 32, "width": 48, "samples_per_shard": 2}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven videos, wide and upright; one is no video."""
    folder = tmp_path_factory.mktemp("source") / "films"
    folder.mkdir()
    for number in range(7):
        size = (32, 48) if number % 3 else (48, 32)
        (folder / f"v{number}.mp4").write_bytes(numbered_video(number, 8 + number, size))
        (folder / f"v{number}.txt").write_text(f"Square {number}.")
    (folder / "v3.mp4").write_bytes(b"no video")
    return folder


def joined_and_whole(
    films: Path, folder: Path, parts: int, **options: Any
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The files that a join of parts leaves, without the parts, and those of one run."""
    options = {**SHAPE, "skip_bad": True, **options}
    for number in range(1, parts + 1):
        prepare_videos([str(films)], str(folder / "parts" / "train"), part=f"{number}/{parts}", **options)
    prepare_join(folder / "parts" / "train")
    prepare_videos([str(films)], str(folder / "whole" / "train"), **options)
    joined = {name: file for name, file in contents(folder / "parts").items() if ".part" not in name}
    return joined, contents(folder / "whole")


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        (3, {}),
        (3, {"sizes": "32x48,48x32", "clips_per_video": 2, "num_frames": 1}),
        (5, {"filters": [Duration(least=1.3)]}),  # some parts are left without a sample
    ],
)
def test_parts_joined_are_the_files_of_one_run(
    parts: int, options: dict[str, Any], films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joined, whole = joined_and_whole(films, tmp_path, parts, **options)
    assert joined == whole
    assert "train.skipped.jsonl" in whole
    assert "train.report.jsonl" in whole
    assert sum(name.endswith(".tar") for name in whole) >= 2
    capsys.readouterr()


@pytest.fixture
def annotated(films: Path, tmp_path: Path) -> Path:
    """A file of seven rows, one of which has no question."""
    row = {"chosen": "Red.", "rejected": "Blue."}
    rows = [{**row, "video": f"v{number}.mp4", "question": "Which?" if number != 5 else ""} for number in range(7)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "rows.jsonl"


def test_parts_of_an_annotation_file_are_the_files_of_one_run(
    annotated: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"videos": films, "skip_bad": True, "samples_per_shard": 3}
    for number in range(1, 4):
        prepare_jsonl(annotated, tmp_path / "parts/train", part=f"{number}/3", **options)
    index = prepare_join(tmp_path / "parts/train")
    prepare_jsonl(annotated, tmp_path / "whole/train", **options)
    joined = {name: file for name, file in contents(tmp_path / "parts").items() if ".part" not in name}
    assert joined == contents(tmp_path / "whole")
    assert [entry.key for entry in index.entries] == [f"rows-{number:06d}" for number in (1, 2, 3, 5, 7)]
    assert len(joined["train.skipped.jsonl"].splitlines()) == 2
    capsys.readouterr()


def test_parts_of_the_released_layout_are_the_files_of_one_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, table = tmp_path / "frames", tmp_path / "rows.jsonl"
    rows = [{"video": f"v{number}", "prompt": "What?", "chosen": "A.", "rejected": "B."} for number in range(4)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number in range(4):
        (videos / f"v{number}").mkdir(parents=True)
        for place in range(3):
            picture = np.full((24, 32, 3), 20 * place + number, np.uint8)
            cv2.imwrite(str(videos / f"v{number}/frame{place}.png"), picture)
    for number in (2, 1):  # in any order
        prepare_vistadpo(table, videos, tmp_path / "parts/train", part=f"{number}/2", samples_per_shard=3)
    prepare_join(tmp_path / "parts/train")
    prepare_vistadpo(table, videos, tmp_path / "whole/train", samples_per_shard=3)
    joined = {name: file for name, file in contents(tmp_path / "parts").items() if ".part" not in name}
    assert joined == contents(tmp_path / "whole")
    assert set(joined) == {"train-000000.tar", "train-000001.tar", "train.index.json"}
    capsys.readouterr()


def compared(folder: Path, pairs: list[tuple[int, int]]) -> Path:
    """A table of pairs of six videos of 9 to 14 frames, and how to read it."""
    for number in range(6):
        (folder / f"v{number}.mp4").write_bytes(numbered_video(number, 9 + number))
    lines = [f"v{first}.mp4,v{second}.mp4,Squares.,{place % 2}" for place, (first, second) in enumerate(pairs)]
    (folder / "pairs.csv").write_text("\n".join(["a,b,prompt,better", *lines]) + "\n")
    return folder / "pairs.csv"


COLUMNS: dict[str, Any] = {
    "first_column": "a", "second_column": "b", "prompt_column": "prompt", "label_column": "better",
    "labels": {"1": "first", "0": "second"}, "samples_per_shard": 2,
}  # fmt: skip


def test_parts_of_a_table_of_pairs_are_the_files_of_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = compared(tmp_path, [(0, 1), (0, 2), (3, 3), (4, 5), (5, 0)])
    for number in (1, 2):
        prepare_pairs(table, tmp_path / "parts/train", part=f"{number}/2", skip_bad=True, **COLUMNS)
    prepare_join(tmp_path / "parts/train")
    prepare_pairs(table, tmp_path / "whole/train", skip_bad=True, **COLUMNS)
    joined = {name: file for name, file in contents(tmp_path / "parts").items() if ".part" not in name}
    assert joined == contents(tmp_path / "whole")
    labels = joined["train.labels.csv"].decode().splitlines()
    assert labels == ["key,segment,label"] + [
        f"pairs-{line:06d},whole,{label}" for line, label in ((2, "second"), (3, "first"), (5, "first"), (6, "second"))
    ]
    capsys.readouterr()


def test_a_pair_that_two_parts_have_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = compared(tmp_path, [(0, 1), (0, 2), (3, 2), (0, 1)])
    with pytest.raises(ValueError, match="row 5, row: repeats row 2: the same videos and prompt"):
        prepare_pairs(table, tmp_path / "whole/train", **COLUMNS)
    for number in (1, 2):
        prepare_pairs(table, tmp_path / "parts/train", part=f"{number}/2", **COLUMNS)
    with pytest.raises(ValueError, match="pairs-000005 repeats pairs-000002: the same videos and prompt"):
        prepare_join(tmp_path / "parts/train")
    assert not list((tmp_path / "parts").glob("train-*"))
    capsys.readouterr()


def test_parts_are_blocks_that_have_every_row_once() -> None:
    rows = list(range(10))
    parts = [Part(number, 4).of(rows) for number in range(1, 5)]
    assert parts == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]
    assert [list(Part(number, 3).of([7])) for number in (1, 2, 3)] == [[], [], [7]]


def test_settings_are_described_by_class_and_public_attributes() -> None:
    motion = Motion(least=0.01, shrink=2)
    expected = {
        "class": "Motion", "least": 0.01, "most": 1.0, "fps": 8.0, "shrink": 2,
        "flow": {"class": "DisFlow", "preset": "medium"},
    }  # fmt: skip
    assert described([motion, Path("a/b"), None]) == [expected, "a/b", None]
    round_about: dict[str, Any] = {}
    round_about["itself"] = round_about
    assert json.dumps(described(round_about)).count("itself") == 6


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/3", "1/3/5", "a/b"])
def test_what_is_no_part_is_refused(text: str, films: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give its number from 1 and how many there are, as 2/8"):
        prepare_videos([str(films)], str(tmp_path / "train"), part=text, **SHAPE)


def part(films: Path, folder: Path, number: int, **options: Any) -> Index:
    return prepare_videos(
        [str(films)], str(folder / "train"), part=f"{number}/2", **{**SHAPE, "skip_bad": True, **options}
    )


def test_a_join_needs_all_parts_of_the_same_options(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="there is no finished part of it"):
        prepare_join(tmp_path / "train")
    part(films, tmp_path, 1)
    with pytest.raises(ValueError, match="parts are missing or not finished; run the same command with --part 2/2"):
        prepare_join(tmp_path / "train")
    part(films, tmp_path, 2, fps=4.0)
    with pytest.raises(ValueError, match=r"part2of2: is of other rows or options than train\.part1of2"):
        prepare_join(tmp_path / "train")
    for path in tmp_path.glob("train.part2of2*"):
        path.unlink()
    part(films, tmp_path, 2, workers=1)  # how it is worked on may differ
    assert len(prepare_join(tmp_path / "train")) == 6
    with pytest.raises(ValueError, match="are there already"):
        prepare_join(tmp_path / "train")
    capsys.readouterr()


def test_a_part_that_was_killed_before_its_commit_is_not_joined(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part(films, tmp_path, 1)
    part(films, tmp_path, 2)
    shutil.copytree(tmp_path, tmp_path / "killed")
    (tmp_path / "killed/train.part2of2.index.json").rename(tmp_path / "killed/train.part2of2.index.json.tmp")
    with pytest.raises(ValueError, match=r"train\.part2of2\.index\.json: is not what the part's record names"):
        prepare_join(tmp_path / "killed/train")
    shutil.copy(tmp_path / "train.part1of2.index.json", tmp_path / "killed/train.part2of2.index.json")
    with pytest.raises(ValueError, match=r"train\.part2of2\.index\.json: is not what the part's record names"):
        prepare_join(tmp_path / "killed/train")
    (tmp_path / "killed/train.part2of2.index.json").unlink()
    part(films, tmp_path / "killed", 2)
    assert prepare_join(tmp_path / "killed/train").fingerprint == prepare_join(tmp_path / "train").fingerprint
    capsys.readouterr()


def test_one_key_in_two_parts_is_refused(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part(films, tmp_path, 1)
    part(films, tmp_path, 2)
    for path in tmp_path.glob("train.part1of2*"):
        shutil.copy(path, path.with_name(path.name.replace("part1", "part2")))
    index = json.loads((tmp_path / "train.part2of2.index.json").read_bytes())
    for shard in index["shards"]:
        shard["name"] = shard["name"].replace("part1", "part2")
    (tmp_path / "train.part2of2.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="samples of two indexes have the same keys"):
        prepare_join(tmp_path / "train")
    assert not (tmp_path / "train.index.json").exists()
    capsys.readouterr()
