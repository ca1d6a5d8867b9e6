"""Pairs of generated videos of others to shards: every layout's labels, what videos are cut to, what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from datamodules.dense.rows import VideoRow
from datamodules.prepare.common_clip import CommonFormat
from datamodules.prepare.pair_verdicts import WORDS, number_words, score_verdict, vote_verdict, word_verdict
from datamodules.prepare.pairs import prepare_pairs
from datamodules.prepare.verify import verify
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.video.codec import decode_frames, encode_mp4, probe
from datamodules.video.facts import VideoFacts
from tests.support.annotated_videos import numbered_frames, numbers
from tests.support.paths import DATA

FORMATS = DATA / "formats" / "gen"
NAMES = (
    "videos/a0", "videos/b0", "videos/a1", "videos/b1", "videos/m1/0001", "videos/m2/0001", "videos/0_left",
    "videos/0_right", "videos/0", "videos/1", "v/0_a", "v/0_b", "v/1_a", "v/1_b", "1", "2", "part0/videos/0000",
    "part0/videos/0001", "videos_27k_1/m1_0001", "videos_27k_1/m2_0001",
)  # fmt: skip


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every video that the examples name: first ones of 13 frames at 8 a second, second ones of 9."""
    folder = tmp_path_factory.mktemp("media")
    for place, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        count = 13 if place % 2 == 0 else 9
        content = encode_mp4(numbered_frames(2 * place, count=count), 8.0, lossless=True)
        (folder / f"{name}.mp4").write_bytes(content)
    return folder


def member_bytes(index: Index, position: int, suffix: str) -> bytes:
    return SampleReader(index).read(position)[suffix]


def labels_of(prefix: Path) -> dict[str, str]:
    with Path(f"{prefix}.labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["segment"] for row in rows} <= {"whole"}
    return {row["key"]: row["label"] for row in rows}


def rows_of(index: Index) -> list[VideoRow]:
    return [VideoRow.from_json(json.loads(member_bytes(index, place, "json"))) for place in range(len(index))]


def names_of(index: Index) -> list[tuple[str, str]]:
    first, second = zip(*(row.video_id.split("|") for row in rows_of(index)), strict=True)
    return list(zip(first, second, strict=True))


BOAT, RAIN = "a paper boat drifts down a rainy street", "rain on a tin roof"
DANCERS = "two dancers turn slowly"
ALIGN, BOARD, VOTES = ("videos/a0", "videos/b0"), ("videos/m1/0001", "videos/m2/0001"), ("1", "2")
DPO = ("part0/videos/0001", "part0/videos/0000")


@pytest.mark.parametrize(
    ("file", "options", "name", "videos", "labels", "prompt"),
    [
        ("videoalign.csv", {"axis": "VQ"}, "videoalign/VQ", ALIGN, ["first", "second"], f"{BOAT}, dusk"),
        ("videoalign.csv", {"axis": "MQ"}, "videoalign/MQ", ALIGN, ["tie", "second"], f"{BOAT}, dusk"),
        ("videoalign.csv", {"axis": "TA"}, "videoalign/TA", ALIGN, ["second"], f"{BOAT}, dusk"),
        ("videogen_rewardbench.csv", {}, "videogen_rewardbench/Overall", BOARD, ["first"], BOAT),
        (
            "genai_bench_unified_reward.json",
            {},
            "genai_bench/vote_type",
            ("videos/0_left", "videos/0_right"),
            ["first"],
            DANCERS,
        ),
        (
            "visionreward_pairs.json",
            {},
            "visionreward/standard_answer",
            ("v/0_a", "v/0_b"),
            ["tie", "second"],
            DANCERS,
        ),
        ("mj_bench_video.json", {}, "mj_bench/Overall", ("videos/0", "videos/1"), ["first"], RAIN),
        ("rapidata_row.json", {"axis": "Preference"}, "rapidata/Preference", VOTES, ["first"], RAIN),
        ("rapidata_row.json", {"axis": "Coherence"}, "rapidata/Coherence", VOTES, ["tie"], RAIN),
        ("rapidata_row.json", {"axis": "Alignment"}, "rapidata/Alignment", VOTES, ["second"], RAIN),
        ("rapidata_row.json", {"axis": "Alignment", "share": 0.6}, "rapidata/Alignment", VOTES, ["tie"], RAIN),
        ("rapidata_results.json", {}, "rapidata/Preference", VOTES, ["first"], RAIN),
        (
            "videofeedback2.json",
            {"axis": "visual_score"},
            "videofeedback2/visual_score",
            ("videos_27k_1/m1_0001", "videos_27k_1/m2_0001"),
            ["first"],
            RAIN,
        ),
        ("videodpo/train_data.yaml", {}, "videodpo/winner", DPO, ["first"], BOAT),
        ("videodpo/part0", {}, "videodpo/winner", DPO, ["first"], BOAT),
        ("videodpo/part0/pair.json", {}, "videodpo/winner", DPO, ["first"], BOAT),
    ],
)
def test_each_layout_is_recognised_with_its_labels(
    media: Path,
    tmp_path: Path,
    file: str,
    options: dict[str, Any],
    name: str,
    videos: tuple[str, str],
    labels: list[str],
    prompt: str,
) -> None:
    index = prepare_pairs(FORMATS / file, tmp_path / "out", media=media, **options)
    assert verify(tmp_path / "out.index.json") == []
    rows = rows_of(index)
    assert names_of(index)[0] == tuple(f"{video}.mp4" for video in videos)
    assert (rows[0].caption, rows[0].source) == (prompt, name)
    assert labels_of(tmp_path / "out") == dict(zip([row.key for row in rows], labels, strict=True))
    # Both have nine frames at 8 a second in common, and the shorter one's bytes are kept.
    assert {row.video for row in rows} == {VideoFacts(9, 8.0, 48, 32)}
    places = [NAMES.index(video) for video in videos]
    for place, member in zip(places, ("first.mp4", "second.mp4"), strict=True):
        content = member_bytes(index, 0, member)
        assert [round(int(value) / 4) for value in decode_frames(content, range(9))[:, 0, -1, -1]] == list(
            range(2 * place, 2 * place + 9)
        )
        kept = (media / f"{NAMES[place]}.mp4").read_bytes()
        assert (content == kept) == (probe(kept).frames == 9)


def test_the_four_votes_of_genai_bench_from_a_parquet_with_videos_in_it(media: Path, tmp_path: Path) -> None:
    rows = json.loads((FORMATS / "genai_bench_video.json").read_text())
    contents = [(media / f"{name}.mp4").read_bytes() for name in NAMES]
    for number, row in enumerate(rows):
        row["left_video"] = {"bytes": contents[2 * number], "path": None}
        row["right_video"] = {"bytes": contents[2 * number + 1], "path": None}
    index = prepare_pairs(written(tmp_path, "t.parquet", rows), tmp_path / "out")
    assert list(labels_of(tmp_path / "out").values()) == ["first", "second", "tie", "tie"]
    assert member_bytes(index, 3, "second.mp4") == contents[7]


def test_what_is_kept_changed_and_dropped_is_said(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_pairs(FORMATS / "videoalign.csv", tmp_path / "out", media=media, axis="TA")
    output = capsys.readouterr().out
    assert "read as videoalign (VideoAlign's layout), compared on TA" in output
    assert f"labels of whole videos in {tmp_path / 'out'}.labels.csv: first 0, second 1, tie 0" in output
    assert "left out, because no label is valid: 1" in output
    assert "pairs cut to what both videos have, by what changed: length 1" in output
    assert "dropped: MQ 1, VQ 1, fps_A 1, fps_B 1, num_frames_A 1, num_frames_B 1" in output
    (row,) = rows_of(prepare_pairs(FORMATS / "videodpo" / "part0", tmp_path / "dpo", media=media))
    assert (row.key, row.scores) == ("part0-000001", {"score": 0.81})
    prepare_pairs(FORMATS / "rapidata_row.json", tmp_path / "votes", media=media, axis="Preference")
    (votes,) = rows_of(Index.read(tmp_path / "votes.index.json"))
    assert votes.scores == {"first": 0.64, "second": 0.36}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["A", "B", "same"], [1, -1, 0]),
        (["leftvote", "rightvote", "tievote", "bothbad_vote"], [1, -1, 0, 0]),
        (["video1", "video2", "tie"], [1, -1, 0]),
        (["Video 1 better", "Video 2 better", "Same"], [1, -1, 0]),
        (["1", "0", "0.5"], [1, -1, 0]),
        (["1", "-1", "0"], [1, -1, 0]),
        (["1", "2"], [1, -1]),
        (["first", "second", "tie"], [1, -1, 0]),
        (["invalid"], [None]),
    ],
)
def test_the_spellings_of_a_verdict(values: list[str], expected: list[int | None]) -> None:
    words = {**WORDS, **number_words(values)}
    assert [word_verdict("label", value, words) for value in values] == expected


def test_scores_have_a_margin_and_votes_a_share() -> None:
    assert [score_verdict(4, 3, margin) for margin in (0, 1, 1.5)] == [1, 1, 0]
    assert [score_verdict(3, 4, 0), score_verdict(3, 3, 0)] == [-1, 0]
    assert [vote_verdict(6, 4, share) for share in (0.5, 0.59, 0.6)] == [1, 1, 0]
    assert [vote_verdict(5, 5, 0.5), vote_verdict(2, 8, 0.7), vote_verdict(0, 0, 0.5)] == [0, -1, None]


TABLE = [
    {"left": "videos/a0.mp4", "right": "videos/b0.mp4", "text": "one", "best": "2", "sa": 3.0, "sb": 5.0},
    {"left": "videos/a1.mp4", "right": "videos/b1.mp4", "text": "two", "best": "1", "sa": 3.0, "sb": 2.0},
]
COLUMNS = {"first_column": "left", "second_column": "right", "prompt_column": "text"}


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".csv"):
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    else:
        path.write_text(json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.jsonl", "rows.parquet"])
def test_columns_by_flag_in_every_container(media: Path, tmp_path: Path, name: str) -> None:
    index = prepare_pairs(written(tmp_path, name, TABLE), tmp_path / "out", media=media, label_column="best", **COLUMNS)
    assert [row.caption for row in rows_of(index)] == ["one", "two"]
    assert list(labels_of(tmp_path / "out").values()) == ["second", "first"]


def test_scores_in_two_columns_and_tables_without_labels(media: Path, tmp_path: Path) -> None:
    table = written(tmp_path, "rows.json", TABLE)
    options = {"media": media, "format": "columns", **COLUMNS}
    prepare_pairs(table, tmp_path / "scored", score_columns=("sa", "sb"), margin=1.5, **options)
    assert list(labels_of(tmp_path / "scored").values()) == ["second", "tie"]
    index = prepare_pairs(table, tmp_path / "bare", **options)
    assert len(index) == 2
    assert not (tmp_path / "bare.labels.csv").exists()


def test_the_user_says_what_labels_mean(media: Path, tmp_path: Path) -> None:
    rows = [TABLE[0] | {"best": "0"}, TABLE[1] | {"best": "1"}]
    table, options = written(tmp_path, "rows.json", rows), {"media": media, "label_column": "best", **COLUMNS}
    with pytest.raises(ValueError, match=r"--label_column best: its labels 0, 1 may mean several things"):
        prepare_pairs(table, tmp_path / "out", **options)
    prepare_pairs(table, tmp_path / "out", labels={"0": "tie", "1": "second"}, **options)
    assert list(labels_of(tmp_path / "out").values()) == ["tie", "second"]
    with pytest.raises(ValueError, match="better is none of first, second, tie and drop"):
        prepare_pairs(table, tmp_path / "no", labels={"0": "better"}, **options)


def test_pairs_within_a_prompt_by_score_gap(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["videos/a0", "videos/b0", "videos/a1", "videos/b1"]
    rows = [
        {"video_url": f"{name}.mp4", "prompt": prompt, "visual_score": score, "t2v_score": 1, "phy_score": 1}
        for name, prompt, score in zip(names, ["p", "p", "p", "q"], [4, 2, 1, 5], strict=True)
    ]
    table = written(tmp_path, "vf.json", rows)
    prepare_pairs(table, tmp_path / "all", media=media, axis="visual_score")
    assert labels_of(tmp_path / "all") == {"vf-1-3": "first", "vf-1-2": "first", "vf-2-3": "first"}
    capsys.readouterr()
    prepare_pairs(table, tmp_path / "far", media=media, axis="visual_score", margin=2)
    assert list(labels_of(tmp_path / "far")) == ["vf-1-3", "vf-1-2"]
    assert "dropped: phy_score 2, t2v_score 2" in capsys.readouterr().out
    prepare_pairs(table, tmp_path / "one", media=media, axis="visual_score", pairs_per_prompt=1)
    assert list(labels_of(tmp_path / "one")) == ["vf-1-3"]
    with pytest.raises(ValueError, match="no two videos of one prompt differ in t2v_score"):
        prepare_pairs(table, tmp_path / "none", media=media, axis="t2v_score")
    with pytest.raises(ValueError, match="choose an axis: --axis visual_score or t2v_score or phy_score"):
        prepare_pairs(table, tmp_path / "none", media=media)


def test_videofeedback_one_has_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="VideoFeedback 1 rates single videos, no two of one prompt, so it has no pairs"
    ):
        prepare_pairs(FORMATS / "videofeedback_row.json", tmp_path / "out")


def test_two_videos_are_cut_to_what_both_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """40 frames at 16 a second of 96 x 64 beside 17 at 8 of 50 x 40: 17 at 8, of 48 x 32; the moments agree."""
    (tmp_path / "a.mp4").write_bytes(encode_mp4(numbered_frames(0, count=40, size=(64, 96)), 16.0, lossless=True))
    (tmp_path / "b.mp4").write_bytes(encode_mp4(numbered_frames(20, count=17, size=(40, 50)), 8.0, lossless=True))
    row = {"first": "a.mp4", "second": "b.mp4", "prompt": "one", "label": "second"}
    options = {"first_column": "first", "second_column": "second", "label_column": "label", "lossless": True}
    index = prepare_pairs(written(tmp_path, "t.json", [row]), tmp_path / "out", **options)
    (read,) = rows_of(index)
    assert read.video == VideoFacts(17, 8.0, 48, 32)
    assert numbers(decode_frames(member_bytes(index, 0, "first.mp4"), range(17))) == [2 * step for step in range(17)]
    assert numbers(decode_frames(member_bytes(index, 0, "second.mp4"), range(17))) == [20 + step for step in range(17)]
    assert "by what changed: rate 1, length 1, size 1" in capsys.readouterr().out
    shapes = {"height": 32, "width": 32, "num_frames": 9, "fps": 4.0}
    small = prepare_pairs(tmp_path / "t.json", tmp_path / "small", **options, **shapes)
    assert rows_of(small)[0].video == VideoFacts(9, 4.0, 32, 32)
    assert numbers(decode_frames(member_bytes(small, 0, "second.mp4"), range(9)))[:3] == [20, 22, 24]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (VideoFacts(121, 24.0, 640, 480), VideoFacts(81, 16.0, 832, 480), VideoFacts(81, 16.0, 640, 480)),
        (VideoFacts(49, 8.0, 720, 470), VideoFacts(49, 8.0, 720, 480), VideoFacts(49, 8.0, 720, 464)),
    ],
)
def test_the_format_that_two_videos_have_in_common(first: VideoFacts, second: VideoFacts, expected: VideoFacts) -> None:
    assert CommonFormat().of(first, second) == expected
    assert CommonFormat().of(second, first) == expected
    with pytest.raises(ValueError, match="has 8 frames a second, 24 are asked for"):
        CommonFormat(fps=24.0).of(VideoFacts(49, 8.0, 64, 64), VideoFacts(49, 24.0, 64, 64))
    with pytest.raises(ValueError, match=r"both videos have 0\.50 s in common, fewer than 5 frames at 8 a second"):
        CommonFormat().of(VideoFacts(4, 8.0, 64, 64), VideoFacts(49, 24.0, 64, 64))
    assert CommonFormat(temporal_ratio=8).of(VideoFacts(47, 8.0, 64, 64), second).frames == 41


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"path_B": "videos/none.mp4"}, "path_B: there is no file"),
        ({"path_B": "videos/a0.mp4"}, "path_B: is the same video as the first"),
        ({"path_A": "<video>"}, "path_A: there is neither a folder of frames"),
        ({"VQ": "C"}, 'VQ: "C" is none of a, b, same, invalid'),
        ({"VQ": ""}, "VQ: is missing; it says which video is better"),
        ({"prompt": ""}, "row: does not fit videoalign, it has no prompt"),
        ({}, "row: repeats row 2: the same videos and prompt"),
    ],
)
def test_a_bad_row_is_named(media: Path, tmp_path: Path, change: dict[str, str], expected: str) -> None:
    row = {"path_A": "videos/a0.mp4", "path_B": "videos/b0.mp4", "prompt": "one", "VQ": "A", "MQ": "B"}
    table = written(tmp_path, "t.csv", [row, row | change])
    with pytest.raises(ValueError, match="nothing was written") as caught:
        prepare_pairs(table, tmp_path / "out", media=media, axis="VQ")
    assert f"row 3, {expected}" in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_bad_pairs_may_be_skipped_and_have_no_label(media: Path, tmp_path: Path) -> None:
    row = {"path_A": "videos/a0.mp4", "path_B": "videos/b0.mp4", "prompt": "one", "VQ": "B"}
    table = written(tmp_path, "t.csv", [row, row | {"path_B": "videos/none.mp4"}, row | {"prompt": "two", "VQ": "A"}])
    index = prepare_pairs(table, tmp_path / "out", media=media, skip_bad=True)
    assert [entry.key for entry in index.entries] == ["t-000002", "t-000004"]
    assert labels_of(tmp_path / "out") == {"t-000002": "second", "t-000004": "first"}
    (skipped,) = (tmp_path / "out.skipped.jsonl").read_text().splitlines()
    assert (json.loads(skipped)["row"], json.loads(skipped)["content"]["path_B"]) == (3, "videos/none.mp4")
    with pytest.raises(ValueError, match="are there already"):
        prepare_pairs(table, tmp_path / "out", media=media, skip_bad=True)


def test_an_axis_is_chosen_where_there_are_several(media: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compares videos on several axes; choose one: --axis VQ or MQ or TA"):
        prepare_pairs(FORMATS / "videoalign.csv", tmp_path / "out", media=media)
    with pytest.raises(ValueError, match="has no axis XY; there are VQ, MQ, TA"):
        prepare_pairs(FORMATS / "videoalign.csv", tmp_path / "out", media=media, axis="XY")


def test_a_table_of_no_layout_names_the_nearest(tmp_path: Path) -> None:
    table = written(tmp_path, "t.json", [{"path_A": "a.mp4", "prompt": "one"}])
    with pytest.raises(ValueError, match="fits no layout; the nearest is videoalign, for which it lacks path_B"):
        prepare_pairs(table, tmp_path / "out")
    with pytest.raises(ValueError, match="name the columns: --first_column"):
        prepare_pairs(table, tmp_path / "out", format="columns")


def test_videodpo_places_outside_its_list(media: Path, tmp_path: Path) -> None:
    shutil.copytree(FORMATS / "videodpo" / "part0", tmp_path / "part0")
    pairs = json.loads((tmp_path / "part0/pair.json").read_text())
    (tmp_path / "part0/pair.json").write_text(json.dumps([{**pairs[0], "video2": 2}]))
    with pytest.raises(ValueError, match=r"part0-000001, video2: is 2, no place in metadata\.json, which has 2 videos"):
        prepare_pairs(tmp_path / "part0", tmp_path / "out", media=media)
