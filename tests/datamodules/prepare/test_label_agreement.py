"""How far two sets of labels agree, against counts done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datamodules.prepare.label_agreement import agreement, label_agreement
from tests.support.flow_shards import write_labels, write_pairs

FIRST = [1, 1, 1, 0, 0, -1, -1, 0, 1, -1]
TRUTH = [1, 1, -1, 0, 1, -1, 0, 0, 1, -1]


def test_numbers_by_hand() -> None:
    result = agreement(FIRST, TRUTH)
    assert result.items == 10
    assert result.accuracy == 7 / 10
    # Seven are decided in truth: 1 1 -1 1 -1 1 -1, of which 1 1 x 0 -1 1 -1 were said: five.
    assert result.accuracy_without_ties == 5 / 7
    assert result.accuracy_both_decided == 5 / 6
    chance = (4 * 4 + 3 * 3 + 3 * 3) / 100
    assert result.kappa == pytest.approx((0.7 - chance) / (1 - chance))
    assert {name: count for name, count in result.confusion.items() if count} == {
        "first/first": 3, "first/second": 1, "second/second": 2, "second/tie": 1, "tie/first": 1, "tie/tie": 2,
    }  # fmt: skip


def test_perfect_opposite_and_constant_labels() -> None:
    assert agreement(TRUTH, TRUTH).kappa == 1
    opposite = agreement([-label for label in TRUTH], TRUTH)
    assert (opposite.accuracy, opposite.accuracy_without_ties) == (0.3, 0)
    assert opposite.kappa is not None
    assert opposite.kappa < 0
    constant = agreement([0, 0], [0, 0])
    assert (constant.accuracy, constant.kappa, constant.accuracy_without_ties) == (1, None, None)
    assert agreement([0, 0, 0], [1, -1, 0]).kappa == 0
    assert agreement([], []).accuracy is None


@pytest.fixture
def sets(tmp_path: Path) -> tuple[str, str]:
    pairs = write_pairs(tmp_path, 4)
    first = write_labels(pairs, [(1, 1, 1), (0, 0, -1), (-1, 0, 1), None], "judge")
    second = write_labels(pairs, [(1, 1, -1), (0, 1, -1), None, (1, 1, 1)], "people")
    return first, second


def test_label_shards_are_compared_by_key(sets: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    result = label_agreement(*sets)
    assert (result["items"], result["only_first"], result["only_second"], result["annotators"]) == (6, 3, 3, {})
    assert result["accuracy"] == 4 / 6
    assert result["accuracy_without_ties"] == 3 / 5
    output = capsys.readouterr().out
    assert "0.6667" in output
    assert "0.6000" in output
    assert "3 of the first, 3 of the second" in output


def test_whole_videos_are_compared_by_majority_or_by_the_label_given(sets: tuple[str, str], tmp_path: Path) -> None:
    result = label_agreement(*sets, level="whole")
    # p00: 1 against 1; p01: -1 against 0.
    assert (result["items"], result["accuracy"], result["only_first"]) == (2, 0.5, 1)
    asked = write_labels(str(tmp_path / "pairs.index.json"), [(-1,), (-1,), (-1,)], "whole", 13, whole=-1)
    assert label_agreement(asked, sets[1], level="whole")["confusion"]["second/first"] == 2
    with pytest.raises(ValueError, match=r"'p00' and 2 others.*13 frames a segment.*compare whole videos"):
        label_agreement(asked, sets[0])


def csv(tmp_path: Path, answers: dict[str, dict[str, tuple[str, ...]]]) -> str:
    lines = ["key,segment,label,annotator"]
    for who, keys in answers.items():
        for key, labels in keys.items():
            lines += [f"{key},{segment},{label},{who}" for segment, label in enumerate(labels)]
    path = tmp_path / "people.csv"
    path.write_text("\n".join(lines))
    return str(path)


def test_each_annotator_is_counted_besides_the_majority(
    sets: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = csv(
        tmp_path,
        {
            "ann": {"p00": ("first", "first", "first"), "p01": ("tie", "tie", "second")},
            "bob": {"p00": ("first", "second", "second")},
            "cy": {"p00": ("first", "first", "second")},
        },
    )
    result: dict[str, Any] = label_agreement(sets[0], people)
    assert (result["items"], result["accuracy"]) == (6, 5 / 6)
    assert {who: (agreement["items"], agreement["accuracy"]) for who, agreement in result["annotators"].items()} == {
        "ann": (6, 1.0), "bob": (3, 1 / 3), "cy": (3, 2 / 3),
    }  # fmt: skip
    assert "bob" in capsys.readouterr().out
    # The annotators are compared with the other set, whichever comes first.
    assert label_agreement(people, sets[0])["annotators"]["bob"]["accuracy"] == 1 / 3


def test_sets_without_a_common_item_are_refused(sets: tuple[str, str], tmp_path: Path) -> None:
    other = csv(tmp_path, {"ann": {"nobody": ("first",)}})
    with pytest.raises(ValueError, match="have no segment in common"):
        label_agreement(sets[0], other)
    with pytest.raises(ValueError, match="have no video in common"):
        label_agreement(sets[0], other, level="whole")


def test_labels_of_different_pairs_are_refused_though_keys_are_equal(sets: tuple[str, str]) -> None:
    pairs = str(Path(sets[0]).parent / "pairs.index.json")
    vanilla = write_labels(pairs, [(1, 1, 1)], "vanilla", fingerprint="of other pairs")
    with pytest.raises(ValueError, match="are labels of different pairs"):
        label_agreement(sets[0], vanilla)
    with pytest.raises(ValueError, match="are labels of different pairs"):
        label_agreement(sets[0], vanilla, level="whole")


def test_segments_of_a_csv_must_be_as_many(sets: tuple[str, str], tmp_path: Path) -> None:
    halves = csv(tmp_path, {"ann": {"p00": ("first",) * 6}})
    with pytest.raises(ValueError, match=r"'p00' and 0 others, .*people.csv has 6 segments and .* 3; .*level: whole"):
        label_agreement(halves, sets[0])
    assert label_agreement(halves, sets[0], level="whole")["items"] == 1


def test_segments_of_another_length_are_refused_though_they_are_as_many(sets: tuple[str, str], tmp_path: Path) -> None:
    paths = [tmp_path / "one.csv", tmp_path / "two.csv"]
    for path, seconds in zip(paths, ("1", "1.2"), strict=True):
        path.write_text(f"key,segment,label,annotator,seconds\np00,0,first,ann,{seconds}\n")
    with pytest.raises(ValueError, match=r"one\.csv has segments of 1 s and .*two\.csv of 1\.2 s; compare"):
        label_agreement(*paths)
    assert label_agreement(*paths, level="whole")["items"] == 1


def test_a_label_of_the_whole_video_is_no_segment(sets: tuple[str, str], tmp_path: Path) -> None:
    asked = write_labels(str(tmp_path / "pairs.index.json"), [(-1,)], "whole", 13, whole=-1)
    people = csv(tmp_path, {"ann": {"p00": ("first",)}})
    with pytest.raises(ValueError, match="have no segment in common"):
        label_agreement(asked, people)
    assert label_agreement(asked, people, level="whole")["confusion"]["second/first"] == 1


def test_annotators_of_one_name_in_both_sets_are_both_counted(tmp_path: Path) -> None:
    lines = "key,segment,label,annotator\nv1,0,first,ann\nv1,0,{},bob\n"
    paths = [tmp_path / "one.CSV", tmp_path / "two.csv"]
    for path, label in zip(paths, ("first", "second"), strict=True):
        path.write_text(lines.format(label))
    result = label_agreement(*paths)["annotators"]
    assert {who: agreement["accuracy"] for who, agreement in result.items()} == {
        "ann (first set)": 0, "bob (first set)": 0, "ann (second set)": 1, "bob (second set)": 0,
    }  # fmt: skip
