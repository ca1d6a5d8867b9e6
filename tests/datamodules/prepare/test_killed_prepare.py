"""`prepare` killed at any moment: the same command again gives the same files, and no others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from datamodules.prepare.own_videos import prepare_jsonl
from datamodules.prepare.pairs import prepare_pairs
from datamodules.prepare.preferences import prepare_preferences
from datamodules.prepare.toy_videos import prepare_toy_videos
from datamodules.prepare.verify import verify
from datamodules.prepare.videos import prepare_videos
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from tests.support.annotated_videos import numbered_video
from tests.support.kills import contents, killed
from tests.support.shard_samples import samples, small_shards, tar_of


def jsonl(source: Path, output: Path) -> None:
    """Two shards, and a list of skipped rows."""
    prepare_jsonl(source / "rows.jsonl", output / "train", skip_bad=True, samples_per_shard=2)


def sized_videos(source: Path, output: Path) -> None:
    """Two data sets that are committed together, two shards in one of them, and a report."""
    shape = {"num_frames": 5, "fps": 8.0, "sizes": "32x48,48x32", "samples_per_shard": 1}
    prepare_videos([str(source / "films")], str(output / "train"), **shape)  # type: ignore[arg-type]


def toy_videos(source: Path, output: Path) -> None:
    """A shard and a list of prompts."""
    prepare_toy_videos(str(output / "train"), num_videos=1)


def pairs(source: Path, output: Path) -> None:
    """A shard, labels beside it and a list of skipped rows."""
    columns = {"first_column": "a", "second_column": "b", "prompt_column": "prompt", "label_column": "better"}
    labels = {"1": "first", "0": "second"}
    prepare_pairs(source / "pairs.csv", output / "train", skip_bad=True, workers=1, labels=labels, **columns)  # type: ignore[arg-type]


def preferences(source: Path, output: Path) -> None:
    """Two shards, and a list of skipped rows."""
    prepare_preferences(source / "rows.json", output / "train", skip_bad=True, samples_per_shard=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "films").mkdir(parents=True)
    for name, size in {"a": (32, 48), "b": (48, 32), "c": (32, 48)}.items():
        (folder / "films" / f"{name}.mp4").write_bytes(numbered_video(0, 8, size))
        (folder / "films" / f"{name}.txt").write_text("A square.")
    row = {"video": "films/a.mp4", "chosen": "Red.", "rejected": "Blue."}
    rows = [{**row, "question": f"What is {number}?"} for number in range(3)] + [{**row, "question": ""}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "pairs.csv").write_text(
        "a,b,prompt,better\nfilms/a.mp4,films/c.mp4,A square.,1\nfilms/a.mp4,x.mp4,No.,0\n"
    )
    answers = [("Red.", "Blue."), ("Blue.", "Red."), ("", "Red.")]
    turns = [
        {
            "conversations": [{"from": "human", "value": f"<video>What is {number}?"}],
            "chosen": {"from": "gpt", "value": chosen},
            "rejected": {"from": "gpt", "value": rejected},
            "videos": ["films/a.mp4"],
        }
        for number, (chosen, rejected) in enumerate(answers)
    ]
    (folder / "rows.json").write_text(json.dumps(turns))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("prepare", [jsonl, sized_videos, toy_videos, pairs, preferences])
def test_the_same_command_after_a_kill_at_each_moment_gives_the_same_files(
    prepare: Callable[[Path, Path], None], source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "output"
    whole.mkdir()
    prepare(source, whole)
    expected, moment, unfinished = contents(whole), 1, 0
    while True:
        output.mkdir()
        if not killed(partial(prepare, source, output), moment):
            break
        indexes = sorted(output.glob("*.index.json"))
        if len(indexes) < sum(name.endswith(".index.json") for name in expected):
            unfinished += 1
            # A second attempt has the same fate, or comes further with what the first one finished, up to the end.
            killed(partial(prepare, source, output), moment)
        committed = len(list(output.glob("*.index.json"))) == sum(name.endswith(".index.json") for name in expected)
        if not committed or any(output.glob("*.commit.json")):
            prepare(source, output)
        elif any(output.glob(".*.kept")):  # committed, but not tidied up
            with pytest.raises(ValueError, match="are there already"):
                prepare(source, output)
        assert contents(output) == expected, f"after a kill at change {moment}"
        shutil.rmtree(output)
        moment += 1
    assert contents(output) == expected
    assert unfinished >= 6
    capfd.readouterr()


def test_what_is_committed_is_refused_and_sound(source: Path, tmp_path: Path) -> None:
    for prepare, names in {jsonl: ["train"], sized_videos: ["train-32x48", "train-48x32"]}.items():
        output = tmp_path / prepare.__name__
        prepare(source, output)
        before = contents(output)
        with pytest.raises(ValueError, match="are there already"):
            prepare(source, output)
        assert contents(output) == before
        assert all(verify(output / f"{name}.index.json") == [] for name in names)


def broken_off(folder: Path, count: int) -> None:
    """What a kill among the renames leaves of `count` samples, five a shard: shards and the partial index."""
    index = small_shards(folder, count)
    assert len(index.shards) > 1
    (folder / "train.index.json").rename(folder / "train.index.json.tmp")
    Path(index.shards[-1].address).rename(f"{index.shards[-1].address}.tmp")


def test_a_former_attempt_with_other_samples_is_replaced_as_a_whole(tmp_path: Path) -> None:
    broken_off(tmp_path, 23)
    index = small_shards(tmp_path, 7)
    assert sorted(contents(tmp_path)) == ["train-000000.tar", "train-000001.tar", "train.index.json"]
    assert Index.read(tmp_path / "train.index.json").fingerprint == index.fingerprint


def test_an_attempt_that_fails_leaves_what_a_kill_left(tmp_path: Path) -> None:
    broken_off(tmp_path, 23)
    with pytest.raises(ValueError, match="appears twice"):
        write_shards([*samples(2), *samples(2)], tmp_path / "train", samples_per_shard=1)
    assert len(small_shards(tmp_path, 7)) == 7


@pytest.mark.parametrize("claim", [None, b'{"shards": [', b'{"shards": [{"name": "train-000000.tar", "bytes": 3}]}'])
def test_shards_of_somebody_else_are_never_touched(tmp_path: Path, claim: bytes | None) -> None:
    """Without an index they may be another program's: only a partial index that claims them makes them ours."""
    tar_of(tmp_path / "train-000000.tar", {"a.mp4": b"mine"})
    if claim is not None:
        (tmp_path / "train.index.json.tmp").write_bytes(claim)
    before = (tmp_path / "train-000000.tar").read_bytes()
    with pytest.raises(ValueError, match=r"train-000000\.tar are there already; delete them"):
        small_shards(tmp_path)
    assert (tmp_path / "train-000000.tar").read_bytes() == before


def test_neighbours_whose_names_share_the_prefix_stay(tmp_path: Path) -> None:
    neighbours: dict[str, Any] = dict.fromkeys(
        ("train-0000001.tar.tmp", "train-extra-000000.tar.tmp", "train-00000a.tar.tmp", "train-1.tar"), b"x"
    )
    for name, content in neighbours.items():
        (tmp_path / name).write_bytes(content)
    broken_off(tmp_path, 11)
    small_shards(tmp_path, 3)
    assert {name: content for name, content in contents(tmp_path).items() if name in neighbours} == neighbours


def test_a_name_with_glob_characters_is_its_own(tmp_path: Path) -> None:
    output = tmp_path / "tr[ai]n"
    write_shards(samples(3), output)
    Path(f"{output}.index.json").rename(f"{output}.index.json.tmp")
    assert len(write_shards(samples(2), output)) == 2


def test_the_half_shards_of_a_prepare_that_was_killed_in_version_0_1_0_are_removed(
    source: Path, tmp_path: Path
) -> None:
    """It called them as this one does; a shard that it had renamed is for its owner to delete."""
    output = tmp_path / "output"
    output.mkdir()
    neighbours = {"train-part-000000.tar.tmp", "train-000007.tar.tmp2", "train2-000000.tar.tmp", "notes.tmp"}
    for name in ("train-000000.tar.tmp", "train-000007.tar.tmp", *neighbours):
        (output / name).write_bytes(b"half")
    jsonl(source, output)
    left = {name for name in contents(output) if (output / name).read_bytes() == b"half"}
    assert left == neighbours
    (output / "former-000000.tar").write_bytes(b"a whole shard")
    (output / "former-000001.tar.tmp").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"former-000000\.tar are there already; delete them, or choose another name"):
        prepare_jsonl(source / "rows.jsonl", output / "former", skip_bad=True)
    assert (output / "former-000000.tar").read_bytes() == b"a whole shard"
