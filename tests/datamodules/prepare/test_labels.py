"""Human labels from a CSV: what is read, what several annotators add up to, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.dense.pair_labels import join_labels
from datamodules.prepare.judgements import LABEL_COLUMNS, majority, read_judgements, repeated_answers
from datamodules.prepare.labels import prepare_labels
from datamodules.prepare.verify import verify
from datamodules.shards.index import Index
from tests.support.flow_shards import write_pairs
from tests.support.judged_pairs import read_labels

HEADER = "key,segment,label,annotator\n"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pairs of three segments of a second: 13 frames at 4 fps."""
    return write_pairs(tmp_path_factory.mktemp("pairs"), 4)


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


def test_labels_become_shards_that_belong_to_the_pairs(
    pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\ufeffkey, segment ,label\np02,0,first\np02,2,Tie\np02,1,second\np00,whole,-1\n"
    text += "p03,0,0\np03,1,1\np03,2,+1\np03,whole,tie\n"
    index = prepare_labels(csv(tmp_path, text), pairs, tmp_path / "out" / "human")
    rows = read_labels(tmp_path / "out" / "human.index.json")
    assert {key: (row.labels, row.whole, row.frames_per_segment) for key, row in rows.items()} == {
        "p00": ((-1,), -1, 13),
        "p02": ((1, -1, 0), None, 4),
        "p03": ((0, 1, 1), 0, 4),
    }
    assert {row.judge for row in rows.values()} == {"human"}
    made_from = {"fingerprint": Index.read(pairs).fingerprint, "judge": "human", "segment_seconds": 1.0}
    assert index.made_from.items() >= made_from.items()
    assert join_labels([Index.read(pairs)], [index]).faults() == []
    assert verify(tmp_path / "out" / "human.index.json") == []
    assert "labels of 3 of 4 pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("labels", "label"),
    [([1], 1), ([0], 0), ([1, -1], 0), ([1, 0], 0), ([1, 1, 0], 1), ([0, 0, -1], 0), ([1, 1, -1], 1),
     ([1, 1, -1, -1, 0], 0), ([-1, -1, 1, 0], -1), ([1, 0, -1], 0)],
)  # fmt: skip
def test_the_majority_of_annotators(labels: list[int], label: int) -> None:
    assert majority(labels) == majority(labels[::-1]) == label


def test_several_annotators_become_one_label(pairs: str, tmp_path: Path) -> None:
    answers = {"ann": ("first", "first", "tie"), "bob": ("first", "second", "second"), "cy": ("tie", "tie", "second")}
    lines = [f"p01,{segment},{label},{who}" for who, labels in answers.items() for segment, label in enumerate(labels)]
    prepare_labels(csv(tmp_path, HEADER + "\n".join(lines)), pairs, tmp_path / "human", judge="three people")
    (row,) = read_labels(tmp_path / "human.index.json").values()
    assert (row.labels, row.judge) == ((1, 0, -1), "three people")


def test_half_seconds_and_segments_that_do_not_fit(pairs: str, tmp_path: Path) -> None:
    path = csv(tmp_path, "key,segment,label\np00,0,first\np00,1,tie\n")
    prepare_labels(path, pairs, tmp_path / "long", segment_seconds=2.0)
    assert read_labels(tmp_path / "long.index.json")["p00"].frames_per_segment == 8
    with pytest.raises(ValueError, match=r"key 'p00': segment 2 has no label"):
        prepare_labels(path, pairs, tmp_path / "short")
    with pytest.raises(ValueError, match=r"key 'p00': a segment of 2 frames is shorter than a latent"):
        prepare_labels(path, pairs, tmp_path / "short", segment_seconds=0.5)
    with pytest.raises(ValueError, match="segment_seconds is nan; give a number above 0"):
        prepare_labels(path, pairs, tmp_path / "short", segment_seconds=float("nan"))


def test_all_faults_of_all_pairs_are_told_and_nothing_is_written(pairs: str, tmp_path: Path) -> None:
    text = "key,segment,label\np00,0,first\np00,5,first\nnobody,0,tie\np01,1,tie\n"
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole message is compared
        prepare_labels(csv(tmp_path, text), pairs, tmp_path / "human")
    assert str(caught.value).splitlines()[1:] == [
        f"key 'nobody' is no pair of {pairs}",
        "key 'p00': segment 1 has no label; segment 2 has no label; "
        "segment 5 does not exist, 3 segments of 1 s count from 0",
        "key 'p01': segment 0 has no label; segment 2 has no label",
    ]
    assert not list(tmp_path.glob("human*"))


def test_every_bad_row_is_told_by_its_line(tmp_path: Path) -> None:
    text = HEADER + (
        "p00,0,first,ann\n,1,first,ann\np00,one,first,ann\np00,-1,first,ann\np00,2,better,ann\np00,0,tie,ann\n"
        "p00,0,tie,bob\np00,3,tie,bob,really\np00\n"
    )
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole message is compared
        read_judgements(csv(tmp_path, text))
    assert str(caught.value).splitlines()[1:] == [
        "line 3: key is empty",
        "line 4: segment 'one' is neither a number from 0 nor whole",
        "line 5: segment '-1' is neither a number from 0 nor whole",
        "line 6: label 'better' is none of first, second and tie",
        "line 7: repeats line 2; one row for each segment and annotator",
        "line 9: has more fields than the first line: 'really'",
        "line 10: segment '' is neither a number from 0 nor whole",
        "line 10: label '' is none of first, second and tie",
    ]


@pytest.mark.parametrize("text", ["", "key,label\n", "key,segment,label,mood\n", "a,b\n1,2\n"])
def test_another_header_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the first line must name the columns key, segment, label"):
        read_judgements(csv(tmp_path, text))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file; give the CSV"):
        read_judgements(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="holds no rows"):
        read_judgements(csv(tmp_path, HEADER))
    path = tmp_path / "latin.csv"
    path.write_bytes("key,segment,label\nJos\u00e9,0,tie\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not a CSV file in UTF-8"):
        read_judgements(path)


PAGE_HEADER = ",".join(LABEL_COLUMNS) + "\n"
TIME = "2026-11-29T10:00:00.000+00:00"


def page_row(key: str, segment: object, label: str, annotator: str = "ann", repeat: int = 0, seconds: str = "") -> str:
    return f"{key},{segment},{label},{annotator},{'second' if repeat else 'first'},{TIME},{seconds},{repeat}\n"


def test_second_answers_are_no_second_votes(pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counted as votes, ann's two for the second video would outvote bob's one for the first, or make it a tie."""
    text = PAGE_HEADER + "".join(page_row("p00", segment, "second") for segment in range(3))
    text += (
        page_row("p00", 0, "first", "bob") + page_row("p00", 1, "first", "bob") + page_row("p00", 2, "second", "bob")
    )
    text += page_row("p00", 0, "second", repeat=1) + page_row("p00", 2, "first", repeat=1)
    path = csv(tmp_path, text)
    prepare_labels(path, pairs, tmp_path / "human")
    (row,) = read_labels(tmp_path / "human.index.json").values()
    assert row.labels == (0, 0, -1)
    assert repeated_answers(read_judgements(path)) == {"ann": (2, 1)}
    assert "ann: 2 questions asked twice, 1 answered alike; not counted twice" in capsys.readouterr().out


def test_side_and_time_are_kept(tmp_path: Path) -> None:
    first, second = read_judgements(
        csv(tmp_path, PAGE_HEADER + page_row("p00", "whole", "tie") + page_row("p00", "whole", "tie", repeat=1))
    )
    assert (first.side, first.time, first.repeat) == ("first", TIME, 0)
    assert (second.side, second.time, second.repeat) == ("second", TIME, 1)


def test_bad_further_columns_are_told_by_their_line(tmp_path: Path) -> None:
    text = PAGE_HEADER + (
        f"p00,0,first,ann,left,{TIME},1,0\np00,1,first,ann,first,noon,,0\np00,2,first,ann,first,{TIME},1.0,2\n"
        f"p01,0,tie,ann,first,{TIME},,1\np01,1,tie,an\np01,2,tie,ann,,,0,0\np02,0,tie,ann,,,a second,0\n"
    )
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole message is compared
        read_judgements(csv(tmp_path, text))
    assert str(caught.value).splitlines()[1:] == [
        "line 2: side 'left' is neither first nor second, the video that was shown on the left",
        "line 3: time 'noon' is no ISO 8601 time",
        "line 4: repeat '2' is neither 0 nor 1; `vidpref label` repairs a line that was cut short",
        "line 6: repeat '' is neither 0 nor 1; `vidpref label` repairs a line that was cut short",
        "line 7: seconds '0' is no length of a segment, a number above 0",
        "line 8: seconds 'a second' is no length of a segment, a number above 0",
        "line 5: repeat 1 of a segment that ann has no answer with repeat 0 of",
    ]


def test_labels_of_segments_of_another_length_are_refused(pairs: str, tmp_path: Path) -> None:
    """As many numbers may be there: 13 frames at 4 fps are 2 segments of 2 s and of 2.5 s."""
    rows = [page_row("p00", segment, "first", seconds="2.5") for segment in range(2)]
    path = csv(tmp_path, PAGE_HEADER + page_row("p01", "whole", "tie") + "".join(rows))
    with pytest.raises(ValueError, match=r"labels are of segments of 2\.5 s and are asked for as of 2 s; give"):
        prepare_labels(path, pairs, tmp_path / "other", segment_seconds=2.0)
    with pytest.raises(ValueError, match=r"are asked for as of 0\.5 s"):
        prepare_labels(path, pairs, tmp_path / "other", segment_seconds=0.5, incomplete="skip")
    assert not list(tmp_path.glob("other*"))
    index = prepare_labels(path, pairs, tmp_path / "own")
    assert index.made_from["segment_seconds"] == 2.5
    assert {key: row.frames_per_segment for key, row in read_labels(tmp_path / "own.index.json").items()} == {
        "p00": 10,
        "p01": 13,
    }
    mixed = csv(tmp_path, PAGE_HEADER + "".join([*rows, page_row("p02", 0, "tie", seconds="1")]))
    with pytest.raises(
        ValueError, match=r"segments of 1 s \(line 4\) and 2\.5 s \(line 2\); keep those of each length"
    ):
        prepare_labels(mixed, pairs, tmp_path / "other")


def test_pairs_in_work_are_left_out_on_request(pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = csv(tmp_path, "key,segment,label\np00,0,first\np00,1,tie\np00,2,tie\np01,0,first\np02,whole,tie\n")
    with pytest.raises(ValueError, match=r"key 'p01': segment 1 has no label; segment 2 has no label"):
        prepare_labels(path, pairs, tmp_path / "human")
    prepare_labels(path, pairs, tmp_path / "human", incomplete="skip")
    assert {key: row.labels for key, row in read_labels(tmp_path / "human.index.json").items()} == {
        "p00": (1, 0, 0),
        "p02": (0,),
    }
    assert "left out, because segments have no label: 1 pairs (p01)" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no pair has a label for each of its segments"):
        prepare_labels(csv(tmp_path, "key,segment,label\np01,0,first\n"), pairs, tmp_path / "none", incomplete="skip")
