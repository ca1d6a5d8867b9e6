from typing import Any

from benchmarks.video_hallucer.yes_no import bias, is_hit, margin_auc
from tests.support.goldens import golden

GOLDEN = golden("bench_videohallucer")


def pair_of(basic: str, hallucinated: str) -> dict[str, Any]:
    return {
        "basic": {"video": "a.mp4", "question": "?", "answer": "yes", "predict": basic},
        "hallucination": {"video": "a.mp4", "question": "?", "answer": "no", "predict": hallucinated},
    }


def test_hits_are_the_published_scorers() -> None:
    hits = [
        [int(is_hit(pair[half]["answer"], pair[half]["predict"])) for half in ("basic", "hallucination")]
        for pair in GOLDEN["pairs"]
    ]
    assert hits == GOLDEN["per_pair_hits"]


def test_bias_is_the_papers_definition() -> None:
    assert bias(GOLDEN["pairs"]) == GOLDEN["bias_paper_definition"]["pooled"]
    pairs = iter(GOLDEN["pairs"])
    for subset in GOLDEN["subset_order"]:
        own = [next(pairs) for _ in range(GOLDEN["subsets"][subset])]
        assert bias(own) == GOLDEN["bias_paper_definition"]["per_subset"][subset]


def test_bias_without_a_wrong_answer_has_no_false_positive_ratio() -> None:
    assert bias([pair_of("Yes.", "No.")])["fp_ratio"] is None
    assert bias([pair_of("Yes.", "Yes.")]) == {
        "pct_diff": 0.5, "fp_ratio": 1.0, "n": 2, "n_pred_yes": 2, "n_wrong": 1, "n_wrong_yes": 1,
    }  # fmt: skip


def with_margins(yes: list[float], no: list[float]) -> list[dict[str, Any]]:
    pairs = [pair_of("", "") for _ in yes]
    for pair, first, second in zip(pairs, yes, no, strict=True):
        pair["basic"]["margin"], pair["hallucination"]["margin"] = first, second
    return pairs


def test_margin_auc_counts_pairs_of_questions() -> None:
    assert margin_auc(with_margins([3.0, 2.0], [1.0, 0.0])) == 1.0
    assert margin_auc(with_margins([1.0, 1.0], [1.0, 1.0])) == 0.5
    # of the four (yes, no) pairs: 3 > 2, 3 > 0, 1 < 2, 1 > 0
    assert margin_auc(with_margins([3.0, 1.0], [2.0, 0.0])) == 0.75
    # large equal steps far from 0, where a sigmoid in float32 would tie them all
    assert margin_auc(with_margins([80.0, 90.0], [70.0, 60.0])) == 1.0
    both_no = with_margins([1.0], [0.0])
    both_no[0]["basic"]["answer"] = "no"
    assert margin_auc(both_no) is None
