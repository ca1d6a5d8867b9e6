"""VideoReward's and VideoScore's accuracy on pairs: the published numbers, a judge, and recorded scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.ratings.pairs import RatedPair, parse_scores, read_table
from benchmarks.ratings.video_reward import VideoReward, accuracy_with_ties, accuracy_without_ties
from benchmarks.ratings.videoscore import ASPECTS, VideoScore
from datamodules.questions.rated_pairs import PairQuestions
from lightning_modules.judges.base import JudgeQuestion
from tests.support.qa_world import ScriptedJudge, details_of, run_test, write_video

#: People's labels, margins, and what VideoAlign's calc_accuracy.py gives: with ties, without.
PUBLISHED = [
    ([0, -1, 0, 1, -1, -1, 1, -1, 0], [0.33, -1.85, -1.04, 1.31, 0.52, 0.31, 1, 0, 0.24], 5 / 9, 0.5),
    ([1, 1, 1, -1, 0, -1, 1, 1, -1], [0, 0, 1, -0.8, 0, 0, -1, 0, -0.31], 4 / 9, 0.375),
    ([1, 1, 0, 0, 1, 0, 1, 0, 1], [1.19, 1.78, 0, 0, -1.91, 0.44, 1.07, 1, 0], 7 / 9, 0.6),
    ([-1, 0, 1, 0, 1, 0, 0, 1, 0], [1.83, -1.39, 0, -1, 0.44, 0.76, 1, 0, 0.54], 5 / 9, 0.25),
    ([-1, 0, -1, -1, 0, 1, -1, -1, -1], [0, 0.45, -1, 0, 1, -0.08, 0, -0.09, 1], 2 / 9, 2 / 7),
    ([-1, 1, 1, -1, 1, 0, 1, -1, 1], [1.38, -1, 0.55, 1.22, -1.2, 1, 0, 1, 1.82], 2 / 9, 0.25),
]


@pytest.mark.parametrize(("labels", "margins", "with_ties", "without"), PUBLISHED)
def test_accuracies_are_the_published_ones(
    labels: list[int], margins: list[float], with_ties: float, without: float
) -> None:
    assert accuracy_with_ties(labels, margins)[0] == with_ties
    assert accuracy_without_ties(labels, margins) == without


def test_unknown_scores_are_wrong() -> None:
    assert accuracy_without_ties([1, -1, 0], [1.0, None, None]) == 1 / 2
    assert accuracy_with_ties([1, -1, 0], [2.0, None, 0.1]) == (2 / 3, 0.1)
    assert accuracy_with_ties([1], [None]) == (0, 0)
    assert accuracy_without_ties([0], [1.0]) is None
    with pytest.raises(ValueError, match="no pairs"):
        accuracy_with_ties([], [])


PAIRS = st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.floats(-2, 2)), min_size=1, max_size=12)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(PAIRS)
def test_the_threshold_gives_the_share(pairs: list[tuple[int, float]]) -> None:
    labels, margins = [label for label, _ in pairs], [margin for _, margin in pairs]
    if len({abs(margin) for margin in margins}) < len(margins):
        return  # among equal margins the published number depends on the order
    share, threshold = accuracy_with_ties(labels, margins)
    hits = [label == 0 if abs(margin) <= threshold else label * margin > 0
            for label, margin in pairs]  # fmt: skip
    assert share == pytest.approx(sum(hits) / len(hits))


def test_scores_are_read_from_the_last_json() -> None:
    names = ("VQ", "MQ")
    assert parse_scores('First {"VQ": 1} then {"VQ": 2, "MQ": -3.5, "x": 0}.', names) == {"VQ": 2, "MQ": -3.5}
    assert parse_scores("[1, 2]", names) == {"VQ": 1, "MQ": 2}
    for reply in ("", "VQ: 1, MQ: 2", "{VQ: 1}", "[1]", '[1, "2"]', "[1, true]", '{"VQ": 1, "MQ": NaN}', "[[1, 2"):
        assert parse_scores(reply, names) is None


def test_a_list_counts_only_where_no_object_tells_the_scores() -> None:
    names = ("VQ", "MQ", "TA")
    nine = dict.fromkeys(names, 9.0)
    assert parse_scores('{"VQ": 9, "MQ": 9, "TA": 9} on scales of [0, 5, 10]', names) == nine
    assert parse_scores('On [0, 5, 10]: [{"VQ": 9, "MQ": 9, "TA": 9}]', names) == nine
    assert parse_scores('{"scale": [0, 5, 10]} so [9, 9, 9]', names) == nine
    assert parse_scores('{"VQ": 9, "scale": [0, 5, 10]}', names) is None


ROWS = [("a.mp4", "b.mp4", "A", "B"), ("./b.mp4", "c.mp4", "A", "same"), ("c.mp4", "a.mp4", "B", "A")]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Three pairs of three videos, the brighter the better."""
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path_A", "path_B", "prompt", "VQ", "Overall"])
        table.writerows([*ends[:2], "a lamp, lit", *ends[2:]] for ends in ROWS)
    for name, value in (("a", 220), ("b", 120), ("c", 20)):
        write_video(tmp_path / "videos" / f"{name}.mp4", value)
    return tmp_path


def data(world: Path, dimensions: Sequence[str] = ("VQ", "Overall"), **options: Any) -> PairQuestions:
    known = {"videos": str(world / "videos"), "num_frames": 2, "question": 'Rate "[[prompt]]".'}
    return PairQuestions(str(world / "pairs.csv"), dimensions=list(dimensions), **(known | options))


def brightness(question: JudgeQuestion) -> float:
    return float(question.images[0].float().mean()) / 100  # type: ignore[union-attr]


def rates(question: JudgeQuestion) -> str:
    bright = brightness(question)
    return f'Bright. {{"VQ": {bright}, "MQ": {-bright}, "TA": {-bright}}}' if bright > 0.5 else "Too dark."


def test_a_judge_scores_each_video_once(world: Path) -> None:
    judge = ScriptedJudge(rates)
    results = run_test(VideoReward(judge, str(world / "out")), data(world))
    assert sorted(question.key for question in judge.asked) == ["videos/a.mp4", "videos/b.mp4", "videos/c.mp4"]
    assert judge.asked[0].text == 'Rate "a lamp, lit".'
    assert len(judge.asked[0].images) == 2
    # Of c nothing is known, so that the second and third pair are wrong; the sum is worse the brighter a video.
    assert results["VQ"]["accuracy_without_ties"] == 1 / 3
    assert results["Overall"]["accuracy_without_ties"] == 1 / 2
    assert {name: results["VQ"][name] for name in ("pairs", "ties", "unparsed")} == {
        "pairs": 3, "ties": 0, "unparsed": 2,
    }  # fmt: skip
    assert results["Overall"]["ties"] == 1
    assert details_of(world / "out")["unparsed_replies"] == {"c.mp4": "Too dark."}
    about = results["about"]
    assert about["unparsed"]["VQ/accuracy_without_ties"] == [2, 3]
    assert about["judge"] == "scripted"
    assert about["annotations"]["videos"]["scored"] == about["annotations"]["videos"]["pairs"] == 3
    assert "VQ/accuracy_without_ties" in about["intervals"]["of"]
    published = json.loads((world / "out" / "accuracy.json").read_text())
    assert published["VQ Accuracy"]["without_ties"] == 1 / 3


def write_scores(path: Path, names: Sequence[str], rows: dict[str, Sequence[float | str]]) -> str:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", *names])
        table.writerows([video, *scores] for video, scores in rows.items())
    return str(path)


def test_the_published_table_of_scores_is_read(world: Path) -> None:
    scores = {"./a.mp4": ["x", 1, 0, 0], "b.mp4": ["x", 0.5, 0, 0], "c.mp4": ["x", 0.25, 0, 2]}
    path = write_scores(world / "out_single.csv", ["model", "reward_VQ", "reward_MQ", "reward_TA"], scores)
    results = run_test(VideoReward(None, str(world / "out"), predictions=path), data(world, videos=None))
    assert results["VQ"]["accuracy_without_ties"] == 1
    assert results["Overall"]["accuracy_without_ties"] == 1 / 2
    assert results["Overall"]["accuracy_with_ties"] == 1 / 3
    assert results["about"]["judge"] is None


def test_scores_that_are_missing_or_doubled_are_listed(world: Path) -> None:
    path = write_scores(world / "s.csv", ["VQ", "MQ", "TA"], {"a.mp4": [1, 0, 0], "d.mp4": [1, 0, 0]})
    with Path(path).open("a") as file:
        file.write("a.mp4,2,0,0\n")
    module = VideoReward(None, str(world / "out"), predictions=path)
    with pytest.raises(ValueError, match="does not fit") as error:
        run_test(module, data(world, videos=None))
    for fault in ("videos/b.mp4", "videos/c.mp4", "more than once:\n    videos/a.mp4", "not asked:\n    d.mp4"):
        assert fault in str(error.value)
    with pytest.raises(ValueError, match="has no columns TA"):
        run_test(VideoReward(None, str(world / "o"), predictions=write_scores(world / "t.csv", ["VQ", "MQ"], {})),
                 data(world, videos=None))  # fmt: skip
    write_scores(world / "s.csv", ["VQ", "MQ", "TA"], {"a.mp4": [1, 0, 0], "b.mp4": ["", 0, 0]})
    results = run_test(module, data(world, videos=None, allow_missing=True))
    assert (results["VQ"]["pairs"], results["VQ"]["unparsed"]) == (1, 1)


def test_videoscore_is_its_pure_rule_on_the_mean_of_five(world: Path) -> None:
    def five(question: JudgeQuestion) -> str:
        return str([brightness(question)] * 4 + [1.0])

    with pytest.raises(ValueError, match=r"data\.dimensions"):
        run_test(VideoScore(ScriptedJudge(five), str(world / "out")), data(world))
    results = run_test(VideoScore(ScriptedJudge(five), str(world / "out")), data(world, ["VQ"]))
    assert results["overall"] == {"accuracy": 1, "pairs": 3, "unparsed": 0}
    assert results["factual consistency"]["accuracy"] == 0
    assert set(results) == {"overall", *ASPECTS, "about"}
    # By "Overall": the first is ordered otherwise, the second counts as equal within 0.5 only, the third is wrong.
    results = run_test(VideoScore(ScriptedJudge(five), str(world / "other")), data(world, ["Overall"]))
    assert results["overall"]["accuracy"] == 0
    assert results["factual consistency"]["accuracy"] == 1 / 3


def test_videoscore_reads_recorded_scores_and_counts_what_it_cannot_read(world: Path) -> None:
    path = write_scores(world / "s.csv", ASPECTS, {
        "a.mp4": [3, 3, 3, 3, 3], "b.mp4": [2, 2, 2, 2, 2], "c.mp4": ["x", 1, 1, 1, 1],
    })  # fmt: skip
    results = run_test(VideoScore(None, str(world / "out"), predictions=path), data(world, ["VQ"], videos=None))
    assert results["overall"] == {"accuracy": 1 / 3, "pairs": 3, "unparsed": 2}


def test_pairs_with_a_missing_video_are_left_out(world: Path) -> None:
    (world / "videos" / "c.mp4").unlink()
    with pytest.raises(ValueError, match=r"1 videos are missing[\s\S]*c\.mp4"):
        run_test(VideoReward(ScriptedJudge(rates), str(world / "out")), data(world))
    results = run_test(VideoReward(ScriptedJudge(rates), str(world / "out")), data(world, allow_missing=True))
    assert results["VQ"]["pairs"] == 1
    assert results["about"]["left_out"] == 1


def test_only_the_first_pairs(world: Path) -> None:
    judge = ScriptedJudge(rates)
    results = run_test(VideoReward(judge, str(world / "out")), data(world, limit_pairs=1))
    assert len(judge.asked) == 2
    assert results["VQ"]["pairs"] == 1


def test_every_fault_of_a_table_is_listed(world: Path) -> None:
    (world / "pairs.csv").write_text(
        "path_A,path_B,prompt,VQ\na.mp4,../b.mp4,x,A\na.mp4,b.mp4,x,B\n/a.mp4,b.mp4,x,left\n"
    )
    with pytest.raises(ValueError, match="3 faults") as error:
        data(world, ["VQ"]).setup("test")
    for fault in ("row 0: path_B '../b.mp4'", "row 2: path_A '/a.mp4'", "row 2: VQ is 'left'"):
        assert fault in str(error.value)
    with pytest.raises(ValueError, match="has no columns MQ, TA; it has path_A"):
        data(world, ["MQ", "TA"]).setup("test")
    (world / "pairs.csv").write_text("path_A,path_B,prompt,VQ\na.mp4,b.mp4,x,A\na.mp4,c.mp4,y,B\n")
    with pytest.raises(ValueError, match=r"row 1: a\.mp4 has another prompt than in row 0"):
        data(world, ["VQ"]).setup("test")
    with pytest.raises(ValueError, match=r"data\.dimensions"):
        data(world, [])


def test_rows_that_end_early_or_late_are_listed(world: Path) -> None:
    (world / "pairs.csv").write_text(
        "path_A,path_B,VQ,prompt\na.mp4,b.mp4,A\na.mp4,b.mp4,A,x\na.mp4,b.mp4,A,a dog, wet\n"
    )
    with pytest.raises(ValueError, match="2 faults") as error:
        data(world, ["VQ"]).setup("test")
    assert "row 0: has no prompt" in str(error.value)
    assert "row 2: has more cells than columns, the first is ' wet'" in str(error.value)
    (world / "scores.csv").write_text("VQ,MQ,TA,path\n1,2,3\n1,2,3,a.mp4\n1,2,3,b.mp4,c.mp4\n")
    with pytest.raises(ValueError, match="2 faults") as error:
        read_table(world / "scores.csv", ("VQ", "MQ", "TA"))
    assert "row 0: has no path" in str(error.value)
    assert "row 2: has more cells than columns" in str(error.value)


def test_a_table_in_another_encoding_is_named(world: Path) -> None:
    (world / "pairs.csv").write_bytes("path_A,path_B,prompt,VQ\na.mp4,b.mp4,caf\u00e9,A\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"pairs\.csv: is not a CSV file in UTF-8"):
        data(world, ["VQ"]).setup("test")
    with pytest.raises(ValueError, match=r"pairs\.csv: is not a CSV file in UTF-8"):
        read_table(world / "pairs.csv", ("VQ",))


@pytest.mark.parametrize("mark", ["\u2028", "\u0085", "\x0b"])
def test_a_text_may_hold_what_looks_like_an_end_of_a_line(mark: str, world: Path) -> None:
    (world / "pairs.csv").write_text(f"path_A,path_B,prompt,VQ\na.mp4,b.mp4,one{mark}two,A\n")
    asks = data(world, ["VQ"])
    asks.setup("test")
    assert asks.pairs[0].prompt == f"one{mark}two"
    (world / "scores.csv").write_text(f"path,VQ\na{mark}b.mp4,1\n")
    assert read_table(world / "scores.csv", ("VQ",)) == [(f"a{mark}b.mp4", {"predict": '{"VQ": 1}'})]


def test_the_sum_is_compared_with_the_overall_choice() -> None:
    better, worse = {"VQ": 1.0, "MQ": 0.0, "TA": 0.0}, {"VQ": 0.0, "MQ": 0.0, "TA": 2.0}
    pair = RatedPair(better, worse, {"VQ": "A", "ALL": "B", "MQ": "same"})
    scores = VideoReward.score([pair])
    assert scores["VQ"]["accuracy_without_ties"] == scores["ALL"]["accuracy_without_ties"] == 1
    assert scores["MQ"]["accuracy_with_ties"] == 1
    assert scores["MQ"]["accuracy_without_ties"] is None
