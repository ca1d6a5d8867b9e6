"""What an annotator is asked: order, sides, repeated questions, and where it goes on."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.labelling.label_file import LabelFile
from benchmarks.labelling.labelling import Labelling, StaleQuestionError
from benchmarks.labelling.pairs import ShownPairs
from benchmarks.labelling.progress import pace, progress
from benchmarks.labelling.questions import REPEAT_AFTER, LabelQuestion, next_open, plan_questions
from datamodules.prepare.judgements import Judgement, Place, read_judgements
from datamodules.shards.index import Index
from tests.support.flow_shards import write_pairs
from tests.support.judged_pairs import write_judged_pairs

PAIRS, SEGMENTS = 60, 3


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> ShownPairs:
    return ShownPairs(write_pairs(tmp_path_factory.mktemp("pairs"), PAIRS))


def test_every_segment_is_asked_once_pair_by_pair(pairs: ShownPairs) -> None:
    questions = plan_questions(pairs, "ann", repeats=0, seed=0)
    assert [question.number for question in questions] == list(range(PAIRS * SEGMENTS))
    by_pair = [questions[start : start + SEGMENTS] for start in range(0, len(questions), SEGMENTS)]
    for each in by_pair:
        assert len({(question.place.key, question.left) for question in each}) == 1
        assert [question.place.segment for question in each] == [0, 1, 2]
        # 13 frames at 4 per second: the odd last frame belongs to the last segment
        assert [question.frames for question in each] == [range(4), range(4, 8), range(8, 13)]
    order = [each[0].place.key for each in by_pair]
    assert sorted(order) == sorted(row.key for row in pairs.rows)
    assert order != sorted(order)


def test_draws_are_of_seed_key_and_annotator(pairs: ShownPairs) -> None:
    ann, bob = (plan_questions(pairs, name, repeats=0.2, seed=3) for name in ("ann", "bob"))
    assert plan_questions(pairs, "ann", repeats=0.2, seed=3) == ann
    keys = [list(dict.fromkeys(question.place.key for question in each)) for each in (ann, bob)]
    assert keys[0] == keys[1], "annotators meet the pairs in one order"
    sides = [{question.place.key: question.left for question in each if not question.repeat} for each in (ann, bob)]
    for each in sides:
        assert 18 < Counter(each.values())["first"] < 42
    assert 15 < sum(sides[0][key] != sides[1][key] for key in keys[0]) < 45
    assert [q.place for q in plan_questions(pairs, "ann", repeats=0, seed=4)] != [q.place for q in ann if not q.repeat]


def test_a_share_is_asked_again_later_with_the_sides_swapped(pairs: ShownPairs) -> None:
    questions = plan_questions(pairs, "ann", repeats=0.25, seed=0)
    first = {question.place: question for question in questions if not question.repeat}
    again = [question for question in questions if question.repeat]
    assert len(first) == PAIRS * SEGMENTS
    assert 30 < len(again) < 60
    assert len({question.place for question in again}) == len(again)
    order = list(dict.fromkeys(question.place.key for question in questions))
    for question in again:
        assert question.left == first[question.place].right
        assert question.frames == first[question.place].frames
        shown = max(order.index(earlier.place.key) for earlier in questions[: question.number] if not earlier.repeat)
        between = shown - order.index(question.place.key)
        assert REPEAT_AFTER[0] <= between <= REPEAT_AFTER[1] or shown == PAIRS - 1
    fewer = {question.place for question in plan_questions(pairs, "ann", repeats=0.1, seed=0) if question.repeat}
    assert fewer < {question.place for question in again}
    assert sum(question.repeat for question in plan_questions(pairs, "ann", repeats=1, seed=0)) == PAIRS * SEGMENTS


def test_whole_videos_are_one_question_each(pairs: ShownPairs) -> None:
    whole = ShownPairs(pairs.path, granularity="whole")
    questions = plan_questions(whole, "ann", repeats=0, seed=0)
    assert {question.place for question in questions} == {Place(row.key, None) for row in whole.rows}
    assert {question.frames for question in questions} == {range(13)}


@pytest.mark.parametrize(
    ("left", "answer", "label"),
    [
        ("first", "left", 1),
        ("first", "right", -1),
        ("second", "left", -1),
        ("second", "right", 1),
        ("second", "tie", 0),
    ],
)
def test_labels_are_of_the_pairs_videos_and_not_of_sides(left: str, answer: str, label: int) -> None:
    question = LabelQuestion(0, 0, Place("p", 0), range(4), 0, left)  # type: ignore[arg-type]
    assert question.label(answer) == label
    assert question.answer(label) == answer


def test_the_next_question_is_the_first_open_one_behind(pairs: ShownPairs) -> None:
    questions = plan_questions(pairs, "ann", repeats=0.1, seed=0)
    answered = {(question.place, question.repeat) for question in questions if question.number not in (4, 9)}
    numbers = [question.number for after in (-1, 3, 4, 9) if (question := next_open(questions, answered, after))]
    assert numbers == [4, 4, 9, 4]
    every = {(question.place, question.repeat) for question in questions}
    assert next_open(questions, every) is None


def test_pace_leaves_breaks_out() -> None:
    times = [f"2026-11-29T10:{minute:02d}:{second:02d}+00:00" for minute, second in ((0, 0), (0, 4), (0, 10), (50, 0))]
    assert pace(times) == 5.0
    assert pace(times[:1]) is None
    assert pace(["", ""]) is None


def test_progress_counts_consistency_and_sides(pairs: ShownPairs) -> None:
    questions = plan_questions(pairs, "ann", repeats=1, seed=0)
    given = [("right", "right"), ("left", "right"), ("left", "right"), ("tie", "tie")]  # as seen, first and again
    answers = {}
    for number, (first, again) in enumerate(given):
        asked = questions[number] if not questions[number].repeat else None
        assert asked is not None
        other = next(question for question in questions if question.place == asked.place and question.repeat)
        for question, answer, second in ((asked, first, 10 * number), (other, again, 10 * number + 2)):
            row = Judgement(0, question.place, question.label(answer), "ann", question.left)
            answers[question.place, question.repeat] = dataclasses.replace(row, time=f"2026-11-29T10:00:{second:02d}Z")
    numbers = progress(questions, answers)
    assert (numbers["asked_twice"], numbers["alike"]) == (4, 3)
    assert (numbers["answered"], numbers["total"]) == (8, 2 * PAIRS * SEGMENTS)
    assert (numbers["decided"], numbers["left"]) == (6, 2)
    assert numbers["seconds_each"] == pytest.approx(32 / 7)
    assert numbers["seconds_left"] == pytest.approx(32 / 7 * (2 * PAIRS * SEGMENTS - 8))


@pytest.fixture
def labelling(tmp_path: Path) -> Labelling:
    return Labelling(ShownPairs(write_judged_pairs(tmp_path)), LabelFile(tmp_path / "labels.csv"), repeats=1)


def answer(labelling: Labelling, state: dict, given: str = "left", annotator: str = "ann") -> dict:
    named = {name: state["question"][name] for name in ("number", "key", "segment", "repeat")}
    return labelling.answer(annotator, {**named, "answer": given})


def test_answers_go_to_the_file_and_a_restart_goes_on(labelling: Labelling) -> None:
    state = labelling.next("ann")
    for _ in range(7):
        state = answer(labelling, state)
    restarted = Labelling(labelling.pairs, LabelFile(labelling.file.path), repeats=1)
    assert restarted.next("ann") == state
    assert state["progress"]["answered"] == len(read_judgements(labelling.file.path)) == 7
    assert restarted.next("bob")["question"]["number"] == 0
    for row in read_judgements(labelling.file.path):
        assert (row.label == 1) == (row.side == "first"), "the left video was chosen throughout"
        assert row.seconds == 1, "so that nobody reads them as segments of another length"


def test_labels_of_segments_of_another_length_are_refused(labelling: Labelling) -> None:
    answer(labelling, labelling.next("ann"))
    path = labelling.pairs.path
    with pytest.raises(ValueError, match=r"labels\.csv: its labels are of segments of 1 s and are asked for as of 2 s"):
        Labelling(ShownPairs(path, segment_seconds=2.0), LabelFile(labelling.file.path))
    whole = Labelling(ShownPairs(path, "whole", segment_seconds=2.0), LabelFile(labelling.file.path))
    answer(whole, whole.next("ann"))
    assert [row.seconds for row in read_judgements(labelling.file.path)] == [1, None]


def test_all_of_it_ends_with_no_question(labelling: Labelling) -> None:
    state = labelling.next("ann")
    while state["question"] is not None:
        state = answer(labelling, state, "tie")
    assert state["progress"]["answered"] == state["progress"]["total"] == 2 * 5 * 3
    assert state["progress"]["alike"] == 15
    assert labelling.back("ann", 2**31)["question"]["number"] == 29


def test_back_and_another_answer(labelling: Labelling) -> None:
    state = labelling.next("ann")
    for _ in range(3):
        state = answer(labelling, state)
    back = labelling.back("ann", state["question"]["number"])
    assert (back["question"]["number"], back["question"]["answer"]) == (2, "left")
    assert labelling.back("ann", 0)["question"]["number"] == 0
    following = answer(labelling, back, "right")
    assert following["question"]["number"] == 3
    assert labelling.question("ann", 2)["question"]["answer"] == "right"
    assert len(read_judgements(labelling.file.path)) == 3


def test_the_timeline_shows_answers_but_not_beside_a_second_question(labelling: Labelling) -> None:
    state = labelling.next("ann")
    shown = []
    while state["question"] is not None:
        question = state["question"]
        shown.append((question["repeat"], [segment["answer"] for segment in question["timeline"]]))
        state = answer(labelling, state, "right")
    assert shown[:3] == [(0, [None] * 3), (0, ["right", None, None]), (0, ["right", "right", None])]
    assert [answers for repeat, answers in shown if repeat] == [[None] * 3] * 15


def test_a_stale_page_writes_nothing(labelling: Labelling) -> None:
    state = labelling.next("ann")
    for change in ({"key": "p99"}, {"segment": None}, {"repeat": 1}, {"number": 9999}, {"number": "0"}):
        with pytest.raises(StaleQuestionError, match="reload"):
            answer(labelling, {"question": state["question"] | change})
    with pytest.raises(ValueError, match="answer 'both' is none of left, right, tie"):
        answer(labelling, state, "both")
    assert labelling.file.judgements == []


def test_labels_of_other_pairs_are_refused(labelling: Labelling, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("key,segment,label\np00,2,tie\np00,3,tie\n")
    with pytest.raises(
        ValueError, match=r"1 labels are of no segment of .*, the first of them of segment 3 of key 'p00'"
    ):
        Labelling(labelling.pairs, LabelFile(path))
    with pytest.raises(ValueError, match=r"repeats is 1\.5; give the share"):
        Labelling(labelling.pairs, labelling.file, repeats=1.5)


def test_pairs_that_cannot_be_shown(tmp_path: Path) -> None:
    path = write_judged_pairs(tmp_path)
    with pytest.raises(
        ValueError, match=r"cannot be labelled:\nkey 'p00': a segment of 2 frames is shorter than a latent"
    ):
        ShownPairs(path, segment_seconds=0.5)
    with pytest.raises(ValueError, match="segment_seconds is 0; give a number above 0"):
        ShownPairs(path, segment_seconds=0)
    Index("vidpref/pairs", (), ()).write(tmp_path / "empty.index.json")
    with pytest.raises(ValueError, match="holds no pairs"):
        ShownPairs(tmp_path / "empty.index.json")
