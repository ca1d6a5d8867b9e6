"""Open-ended question answering: the published parsers and averages, and exact match."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.base.judge_replies import dimension_score, parse_score, whole_score
from benchmarks.open_qa.protocol import (
    AnswerVerdict,
    answer_verdict_of,
    exact_match,
    judged_accuracy,
    normalized,
    parse_answer_verdict,
    question_keys,
)
from datamodules.questions.open_qa import OpenQuestions
from tests.support.goldens import golden
from tests.support.paths import DATA

REPLIES = json.loads((DATA / "cases/replies/scores.json").read_bytes())
GOLDEN = golden("bench_openended_qa")
ZERO_SHOT, BENCH, JUDGED, DIMENSION = (
    GOLDEN[name] for name in ("videochatgpt_zero_shot", "videochatgpt_bench", "lmms_activitynetqa", "lmms_videochatgpt")
)


def test_keys_are_the_published_ones() -> None:
    assert question_keys(ZERO_SHOT["video_names"]) == ZERO_SHOT["keys"]


def test_video_chatgpts_accuracy_and_score_are_the_published_ones() -> None:
    result = judged_accuracy([answer_verdict_of(judged) for judged in ZERO_SHOT["judge_outputs"]])
    printed = dict(line.split(": ") for line in ZERO_SHOT["stdout"])
    assert str(result["yes"]) == printed["Yes count"]
    assert str(result["no"]) == printed["No count"]
    assert str(result["accuracy"]) == printed["Accuracy"]
    assert str(result["average_score"]) == printed["Average score"]
    assert (result["neither"], result["unparsed"]) == (1, 0)


@pytest.mark.parametrize(("reply", "parsed"), list(zip(JUDGED["reviews"], JUDGED["parsed"], strict=True)))
def test_verdicts_are_parsed_as_published(reply: str, parsed: list | None) -> None:
    verdict = parse_answer_verdict(reply)
    assert (None if verdict is None else list(verdict)) == parsed


def test_unparsed_verdicts_are_counted_and_change_no_average() -> None:
    verdicts = [parse_answer_verdict(reply) for reply in JUDGED["reviews"]]
    expected = JUDGED["aggregate_over_parsed_non_null"]
    result = judged_accuracy(verdicts)
    assert result == judged_accuracy([verdict for verdict in verdicts if verdict is not None]) | {"unparsed": 3}
    assert result["average_score"] == expected["gpt_eval_score"]
    assert 100 * result["accuracy"] == expected["gpt_eval_accuracy"]
    assert result["yes"] + result["no"] + result["neither"] == expected["n"]


def test_nothing_to_divide_by_is_no_accuracy() -> None:
    assert judged_accuracy([AnswerVerdict("partially", 3)]) == {
        "accuracy": None, "average_score": 3, "yes": 0, "no": 0, "neither": 1, "unparsed": 0,
    }  # fmt: skip
    assert judged_accuracy([None])["average_score"] is None
    with pytest.raises(ValueError, match="no verdicts"):
        judged_accuracy([])


def test_video_chatgpts_bench_is_the_published_average() -> None:
    result = dimension_score([whole_score(score) for score in BENCH["scores"]])
    for lines in BENCH["stdout"].values():
        assert lines[0].endswith(f": {result['average_score']}")
    assert result["questions"] == len(BENCH["keys"])


def test_scores_are_parsed_as_published() -> None:
    scores = [parse_score(reply) for reply in DIMENSION["reviews"]]
    assert [score or 0 for score in scores] == DIMENSION["parsed"]
    assert dimension_score(scores) == {"average_score": DIMENSION["mean"], "questions": 9, "unparsed": 5}
    with pytest.raises(ValueError, match="no scores"):
        dimension_score([])


NONSENSE = ["{" * 5000, "(" * 5000, "{1}", "[]", "{}", "\0", "{'pred': 'yes'}", "{'score': []}"]
SCORES_OF_NO_KIND = ["'4.8'", "1e999", "None", "[4]", "'four'", "6", "-1", "True", "5" * 20, "5" * 400]


@pytest.mark.parametrize("reply", NONSENSE + [f"{{'pred': 'yes', 'score': {score}}}" for score in SCORES_OF_NO_KIND])
def test_nonsense_is_neither_verdict_nor_score_and_no_crash(reply: str) -> None:
    assert parse_answer_verdict(reply) is None
    assert parse_score(reply) is None


@pytest.mark.parametrize(("reply", "pred", "score"), REPLIES["readable"])
def test_verdicts_in_fences_and_json_are_read(reply: str, pred: str, score: int) -> None:
    assert parse_answer_verdict(reply) == AnswerVerdict(pred, score)
    assert parse_score(reply) == score


@pytest.mark.parametrize(("reply", "score"), REPLIES["score_only"])
def test_scores_in_fences_and_json_are_read(reply: str, score: float) -> None:
    # 4.5 counts as 4: the published scripts cut scores to whole numbers.
    assert parse_score(reply) == int(score)
    assert parse_answer_verdict(reply) is None


@pytest.mark.parametrize("reply", REPLIES["unreadable"])
def test_replies_that_are_no_dictionary_with_a_score_are_unread(reply: str) -> None:
    assert parse_answer_verdict(reply) is None
    assert parse_score(reply) is None


def test_what_a_judge_thought_aloud_is_not_its_reply() -> None:
    thoughts = "<think>{'pred': 'no', 'score': 1} or not?</think>\n\n"
    assert parse_answer_verdict(thoughts + "{'pred': 'yes', 'score': 4}") == AnswerVerdict("yes", 4)
    assert parse_score(thoughts + "{'score': 4}") == 4


def test_an_opinion_that_is_no_text_is_no_verdict() -> None:
    assert parse_answer_verdict("{'pred': True, 'score': 4}") is None


def test_prompts_are_the_published_ones() -> None:
    prompt = "{question}? Answer the question using a single word or phrase."
    asks = OpenQuestions("activitynet_qa", "q.json", None, prompt=prompt, capitalize=True)
    assert {question: asks.asked_as(question) for question in JUDGED["doc_to_text"]} == JUDGED["doc_to_text"]


def asked(kind: int | None, answer: str, number: int) -> dict[str, Any]:
    return {"question_id": f"v_{number}", "answer": answer} | ({} if kind is None else {"type": kind})


def test_exact_match_counts_by_type_and_free_questions_by_their_types() -> None:
    answers = [(0, "run"), (0, "jump"), (2, "before"), (3, "yes"), (3, "no"), (4, "red"), (7, "2"), (8, "dog")]
    answers_given = ["run", "Jump", "after", "yes", "yes", "red", "2", "dog"]
    annotations = [asked(kind, answer, number) for number, (kind, answer) in enumerate(answers)]
    predictions = {f"v_{number}": answer for number, answer in enumerate(answers_given)}
    assert exact_match(predictions, annotations) == {
        "All": 5 / 8, "Free": 4 / 5, "Motion": 1 / 2, "Temporal Relation": 0.0, "Yes/No": 1 / 2,
        "Color": 1.0, "Number": 1.0, "Other": 1.0,
    }  # fmt: skip
    assert exact_match(predictions, annotations, normalize=True)["Motion"] == 1


def test_types_are_those_of_the_test_set() -> None:
    annotations = [asked(0, "cat", 0), asked(3, "street", 1)]
    predictions = {"v_0": "cat", "v_1": "house"}
    assert exact_match(predictions, annotations, dataset="tgif_qa") == {"All": 1 / 2, "Object": 1, "Location": 0}


def test_exact_match_without_types_has_one_number() -> None:
    annotations = [asked(None, "dog", 0), asked(None, "two", 1)]
    predictions = {"v_0": "The dog.", "v_1": "2"}
    assert exact_match(predictions, annotations) == {"All": 0}
    assert exact_match(predictions, annotations, normalize=True) == {"All": 1}


def test_questions_that_cannot_be_scored_are_listed() -> None:
    annotations = [asked(3, "yes", 0), asked(3, "yes", 1), asked(3, "no", 2), asked(3, "no", 2)]
    with pytest.raises(ValueError, match=r"v_0 has no prediction; v_1 has no prediction; v_2 is asked 2 times"):
        exact_match({"v_2": "no"}, annotations)
    with pytest.raises(ValueError, match="there are none"):
        exact_match({}, [])


def test_normalized_answers() -> None:
    assert normalized("  The DOG, a cat.") == "dog cat"
    assert normalized("Twelve") == "12"
    assert normalized("in-door") == "in door"
    assert normalized("") == normalized("the") == ""
