"""Pairs of generated videos of others to shards: every layout's labels, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.prepare.pairs import prepare_pairs
from datamodules.prepare.verify import verify
from datamodules.shards.index import Index
from datamodules.video.codec import decode_frames, probe
from datamodules.video.facts import VideoFacts
from tests.support.generated_pairs import FORMATS, NAMES, labels_of, member_bytes, names_of, rows_of, written

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
