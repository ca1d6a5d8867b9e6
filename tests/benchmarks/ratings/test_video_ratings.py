"""VisionReward as a test: a judge that looks at every video of a folder, and replies that were recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.ratings.judge import AskedJudge
from benchmarks.ratings.videos import VisionReward, VisionRewardMetric, rate, read_reply, summary
from benchmarks.ratings.visionreward import DIMENSIONS, SELECTED, dense_dpo_columns, dimensions, score
from datamodules.questions.checklist import ChecklistQuestions
from datamodules.questions.rated_videos import rate_indices
from lightning_modules.judges.base import JudgeQuestion
from lightning_modules.judges.recorded import RecordedJudge
from tests.support.paths import DATA
from tests.support.qa_world import ScriptedJudge, details_of, run_test, write_json, write_video

LISTS = DATA / "visionreward"
ALL, SELECT = LISTS / "VisionReward_video_qa.txt", LISTS / "VisionReward_video_qa_select.txt"
COLUMNS = {"TA": "text_alignment", "VQ": "visual_quality", "TC": "temporal_consistency", "DD": "dynamic_degree"}


def test_the_selected_questions_are_those_of_the_score() -> None:
    every, selected = (path.read_text().splitlines() for path in (ALL, SELECT))
    assert [every[number - 1] for number in SELECTED] == selected


def looks(question: JudgeQuestion) -> str:
    """Yes about colours, and whatever is bright shows its text; one reply that is neither."""
    bright = float(question.images[0].float().mean()) > 100  # type: ignore[union-attr]
    if "letters" in question.text:
        return "There are none."
    return "yes" if "colors" in question.text or ("requirements" in question.text and bright) else "no"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_video(tmp_path / "videos" / "a lamp that shines-0.mp4", 220, frames=9, fps=4.0)
    write_video(tmp_path / "videos" / "a lamp that shines-1.mp4", 20, frames=9, fps=4.0)
    return tmp_path


def data(world: Path, questions: Path = ALL, **options: Any) -> ChecklistQuestions:
    return ChecklistQuestions(str(questions), **({"videos": str(world / "videos")} | options))


def test_a_judge_rates_every_video(world: Path) -> None:
    judge = ScriptedJudge(looks)
    results = run_test(VisionReward(judge, str(world / "out"), paper="dense_dpo/table1/DenseDPO"), data(world))
    bright, dark = (_answers(world / "out", number) for number in (0, 1))
    assert len(judge.asked) == 2 * 64
    assert 'stated in the text "a lamp that shines"?' in judge.asked[0].text
    assert [len(question.images) for question in judge.asked[:2]] == [3, 3]  # 2 s at 1 a second: at 0, 1 and 2
    assert results["score"] == pytest.approx(
        _mean(score([grades[n - 1] for n in SELECTED]) for grades in (bright, dark))
    )
    for short, name in COLUMNS.items():
        assert results[name] == pytest.approx(_mean(dense_dpo_columns(grades)[short] for grades in (bright, dark)))
    assert results["text_alignment"] == 0
    assert results["dimensions"]["Alignment"] == 0
    assert set(results["dimensions"]) == set(DIMENSIONS)
    assert (results["videos"], results["unparsed"]) == (2, 2 * 3)
    about = results["about"]
    assert about["unparsed"]["score"] == about["unparsed"]["text_alignment"] == [6, 2 * 64]
    assert details_of(world / "out")["unparsed_replies"] == {"There are none.": 6}
    assert about["judge"] == "scripted"
    assert about["intervals"]["of"]["text_alignment"] == [-1, 1]
    assert about["annotations"]["videos"]["questions"] == 64
    assert about["percent"] is False
    assert [number["column"] for number in about["paper"]["numbers"]] == ["TA", "VQ", "TC", "DD"]


def _answers(folder: Path, number: int) -> list[str]:
    videos = json.loads((folder / "videos_judge.json").read_text())
    answers: list[str] = videos[number]["answers"]
    return answers


def _mean(values: Any) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def test_the_selected_list_gives_the_score_alone(world: Path) -> None:
    results = run_test(VisionReward(ScriptedJudge(looks), str(world / "out")), data(world, SELECT))
    assert set(results) == {"score", "videos", "unparsed", "about"}
    assert list(results["about"]["intervals"]["of"]) == ["score"]


def test_recorded_replies_are_rated_without_videos(world: Path) -> None:
    judge = ScriptedJudge(looks)
    first = run_test(VisionReward(judge, str(world / "out")), data(world))
    again = VisionReward(None, str(world / "again"), predictions=str(world / "out" / "answers.jsonl"))
    results = run_test(again, data(world, videos=None, listing=str(world / "videos")))
    assert results | {"about": 0} == first | {"about": 0}
    assert results["about"]["judge"] == "scripted"
    # As a judge that repeats them, too.
    replies = [(question.key, looks(question).replace("are none", "are\u2028none")) for question in judge.asked]
    lines = [json.dumps({"key": key, "reply": reply}, ensure_ascii=False) for key, reply in replies]
    (world / "replies.jsonl").write_text("\n".join(lines))
    recorded = VisionReward(RecordedJudge(str(world / "replies.jsonl"), "VisionReward"), str(world / "third"))
    assert run_test(recorded, data(world))["score"] == first["score"]
    # And as a file of replies, in which every fault is told before anything is scored.
    again = VisionReward(None, str(world / "fourth"), predictions=str(world / "replies.jsonl"))
    asks = {"videos": None, "listing": str(world / "videos")}
    assert run_test(again, data(world, **asks)) | {"about": 0} == first | {"about": 0}
    other = json.dumps({"key": judge.asked[5].key, "reply": "perhaps"})
    (world / "replies.jsonl").write_text("\n".join([*lines[2:], other]))
    with pytest.raises(ValueError, match="2 questions lack an answer") as error:
        run_test(again, data(world, **asks))
    assert f"more than once:\n    {judge.asked[5].key}" in str(error.value)


def test_questions_may_hold_what_looks_like_an_end_of_a_line(world: Path) -> None:
    (world / "list.txt").write_text("Is it\u2028good?\r\n\r\nIs it bad?\r\n")
    asks = data(world, world / "list.txt")
    asks.setup("test")
    assert asks.checklist == ["Is it\u2028good?", "Is it bad?"]


def test_an_answer_that_is_missing_or_doubled_is_listed(world: Path) -> None:
    run_test(VisionReward(ScriptedJudge(looks), str(world / "out")), data(world))
    path = world / "out" / "answers.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[1:], lines[70].replace('"no"', '"yes"')]) + "\n")
    again = VisionReward(None, str(world / "again"), predictions=str(path))
    asks = {"videos": None, "listing": str(world / "videos")}
    with pytest.raises(ValueError, match="does not fit") as error:
        run_test(again, data(world, **asks))
    assert "videos/a lamp that shines-0.mp4/00" in str(error.value)
    assert "videos/a lamp that shines-1.mp4/06" in str(error.value)
    # A video without all its answers is left out; here both are.
    with pytest.raises(ValueError, match="nothing is left"):
        run_test(again, data(world, **asks, allow_missing=True))
    path.write_text("\n".join(lines[1:]) + "\n")
    results = run_test(again, data(world, **asks, allow_missing=True))
    assert (results["videos"], results["about"]["left_out"]) == (1, 1)


def test_an_interrupted_run_goes_on(world: Path) -> None:
    def stops(question: JudgeQuestion) -> str:
        if len(judge.asked) > 64:
            raise OSError("gone")
        return looks(question)

    judge = ScriptedJudge(stops)
    with pytest.raises(OSError, match="gone"):
        run_test(VisionReward(judge, str(world / "out")), data(world))
    judge = ScriptedJudge(looks)
    results = run_test(VisionReward(judge, str(world / "out")), data(world))
    assert len(judge.asked) == 64
    assert results["videos"] == 2


def test_a_list_of_another_length_is_refused(world: Path) -> None:
    (world / "list.txt").write_text("Is it good?\n\nIs it bad?\n")
    with pytest.raises(ValueError, match=r"holds 2 questions.* 64 .* 29 "):
        run_test(VisionReward(ScriptedJudge(looks), str(world / "out")), data(world, world / "list.txt"))


def test_one_of_judge_and_recorded_replies(tmp_path: Path) -> None:
    for judge, path in ((None, None), (ScriptedJudge(looks), "p.jsonl")):
        with pytest.raises(ValueError, match=r"model\.judge"):
            VisionReward(judge, str(tmp_path), predictions=path)


def test_videos_that_do_not_fit_the_prompts_are_listed(world: Path) -> None:
    (world / "prompts.txt").write_text("a lamp that shines\na stone\n")
    write_video(world / "videos" / "a tree-0.mp4", 20)
    write_video(world / "videos" / "nameless.mp4", 20)
    asks = {"prompts": str(world / "prompts.txt"), "num_samples": 2}
    with pytest.raises(ValueError, match="does not fit") as error:
        data(world, **asks).setup("test")
    for fault in ("video 0 of 'a stone' is missing", "video 1 of 'a stone' is missing", "a tree-0.mp4", "nameless.mp4"):
        assert fault in str(error.value)
    results = run_test(VisionReward(ScriptedJudge(looks), str(world / "out")), data(world, **asks, allow_missing=True))
    assert (results["videos"], results["about"]["left_out"]) == (2, 4)
    with pytest.raises(ValueError, match="videojam_bench has 128"):
        data(world, prompts=str(world / "prompts.txt"), prompt_set="videojam_bench").setup("test")
    with pytest.raises(ValueError, match=r"data\.listing"):
        data(world, videos=None)


def test_replies_are_read_strictly_or_by_their_first_word() -> None:
    assert read_reply("Yes.", "published") == "Yes."
    assert read_reply("**Yes**, it is.", "first_word") == "yes"
    assert read_reply("no", "first_word") == "no"
    assert read_reply("Nothing", "first_word") == "Nothing"


def test_a_videos_numbers_are_the_pure_ones() -> None:
    answers = ["yes" if number % 3 else "no" for number in range(64)]
    rating = rate(answers)
    assert rating["score"] == score([answers[number - 1] for number in SELECTED])
    assert {name: rating[name] for name in DIMENSIONS} == dimensions(answers)
    with pytest.raises(ValueError, match="30 answers"):
        rate(["yes"] * 30)
    with pytest.raises(ValueError, match="no video"):
        summary({})


def test_the_metric_leaves_out_unfinished_videos() -> None:
    metric = VisionRewardMetric()
    metric.update({f"videos/a/{n}": {"predict": "yes", "video": "a", "number": n, "of": 29} for n in range(29)})
    metric.update({"videos/b/0": {"predict": "yes", "video": "b", "number": 0, "of": 29}})
    results = metric.compute()
    assert (results["videos"], results["unparsed"]) == (1, 0)
    assert results["score"] == pytest.approx(0.216454, abs=1e-6)


def test_frames_are_the_nearest_to_whole_seconds() -> None:
    assert rate_indices(frames=9, fps=4.0, rate=1.0, most=24) == [0, 4, 8]
    assert rate_indices(frames=300, fps=10.0, rate=1.0, most=24) == [*range(0, 240, 10)]
    assert rate_indices(frames=1, fps=25.0, rate=1.0, most=24) == [0]
    assert rate_indices(frames=16, fps=16.0, rate=2.0, most=16) == [0, 8, 15]


def test_a_judge_can_stand_where_a_policy_does(world: Path) -> None:
    asked = AskedJudge(ScriptedJudge(lambda question: question.text.upper()))
    assert asked.generate(["hm"], [torch.zeros(2, 3, 4, 4, dtype=torch.uint8)], 8) == ["HM"]
    assert asked.generate([], [], 8) == []


def test_a_manifest_tells_prompts(world: Path) -> None:
    (world / "videos" / "a lamp that shines-0.mp4").rename(world / "videos" / "x.mp4")
    write_json(world / "videos" / "manifest.json", {"x.mp4": "a candle"})
    asks = data(world)
    asks.setup("test")
    assert 'text "a candle"?' in asks.everything["videos/x.mp4/00"].prompt
