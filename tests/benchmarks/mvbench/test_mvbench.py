"""MVBench: how letters are read, what tasks add up to, and the test with videos, frames and recorded answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from torch import Tensor

from benchmarks.mvbench.module import MVBench, MVBenchMetric, parse_choice, parse_first_choice, score
from datamodules.questions.mvbench import OWN_PROMPT, TASKS, MVBenchQuestions, folder_frames, read_task
from datamodules.video.codec import encode_mp4
from tests.support.qa_world import Scripted, details_of, run_test, write_json, write_video

REPLIES = {
    "A": "A",
    "b. the dog": "B",
    "C.": "C",
    "(D) it falls": "D",
    "Answer: (E)": "E",
    "**B**": "B",
    "The answer is C, not A": "C",
    "It is a dog.": "A",
    "B-side": "B",
    "Best option:(A)": "A",
    "I choose option_B": "B",
    "The dog runs.": None,
    "F": None,
    "": None,
    "Absolutely": None,
    "1,000 or (A)": "A",
    "D.5\nB": "D",
}


@pytest.mark.parametrize("reply", REPLIES)
def test_letters_are_read_as_published(reply: str) -> None:
    assert parse_choice(reply) == REPLIES[reply]


def test_the_headline_is_the_mean_of_tasks_and_silence_is_wrong() -> None:
    scores = score({"one": [("A", "A"), ("B", ""), ("C", "no idea"), ("D", "(D)")], "two": [("A", "A.")]})
    assert scores["one"] == {"accuracy": 1 / 2, "questions": 4, "unparsed": 2, "empty": 1}
    assert scores["all"] == {"accuracy": 3 / 4, "questions": 5, "unparsed": 2, "empty": 1, "tasks": 2}
    with pytest.raises(ValueError, match="in two"):
        score({"one": [("A", "A")], "two": []})
    with pytest.raises(ValueError, match="any task"):
        score({})


def row(video: str, question: str, answer: str, **more: float) -> dict[str, Any]:
    return {"video": video, "question": question, "candidates": ["bright", "dark"], "answer": answer, **more}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """action_count: two videos; state_change: a span of a video that turns dark; episodic_reasoning: frames."""
    write_json(tmp_path / "json" / "action_count.json", [row("a.mp4", "Is it {options}?", "bright"),
                                                        row("b.mp4", "How is it?", "dark")])  # fmt: skip
    write_json(tmp_path / "json" / "action_sequence.json", [row("c.mp4", "How is it?", "dark", start=1.0, end=2.0)])
    write_json(
        tmp_path / "json" / "episodic_reasoning.json",
        [row("clip", "How is it?", "dark", start=1.0, end=2.0), row("clip", "How is it?", "bright")],
    )
    videos = tmp_path / "video"
    write_video(videos / "perception" / "videos" / "a.mp4", 220)
    write_video(videos / "action_count" / "b.mp4", 20)
    half = np.full((8, 16, 16, 3), 220, np.uint8)
    half[4:] = 20
    (videos / "c.mp4").write_bytes(encode_mp4(half, fps=4.0, lossless=True))
    frames = videos / "tvqa" / "frames_fps3_hq" / "clip"
    frames.mkdir(parents=True)
    for number in range(9):
        value = 220 if number < 3 or number > 6 else 20
        cv2.imwrite(str(frames / f"{number:05d}.jpg"), np.full((16, 16, 3), value, np.uint8))
    return tmp_path


def says(prompt: str, brightness: float) -> str:
    return "(A) bright" if brightness > 100 else "(B) dark"


def data(world: Path, **options: Any) -> MVBenchQuestions:
    known: dict[str, Any] = {
        "videos": str(world / "video"),
        "tasks": ["action_count", "action_sequence", "episodic_reasoning"],
        "num_frames": 3,
        "batch_size": 2,
    }
    return MVBenchQuestions(str(world / "json"), **(known | options))


def test_spans_and_frames_are_shown_and_every_task_counts_the_same(world: Path) -> None:
    policy = Scripted(says)
    results = run_test(MVBench(policy, str(world / "out")), data(world))
    assert results["all"] == {"accuracy": 1, "questions": 5, "unparsed": 0, "empty": 0, "tasks": 3}
    assert policy._asked[0] == (
        "Question:Is it {options}?\nOption:\n(A) bright\n(B) dark\nOnly give the best option."
    )  # fmt: skip
    assert len(details_of(world / "out")["absent_tasks"]) == 17
    assert results["about"]["annotations"]["action_count"]["scored"] == 2
    assert "all/accuracy" in results["about"]["intervals"]["of"]
    published = json.loads((world / "out" / "action_count_policy.json").read_text())
    assert published[1]["predict"] == "(B) dark"


@pytest.mark.parametrize("source", ["answers.jsonl", ""])
def test_recorded_answers_give_the_same(world: Path, source: str) -> None:
    # The videos are as bright as one another here, so some answers are wrong.
    policy = Scripted(lambda prompt, brightness: "A" if "Is it" in prompt else "something else")
    first = run_test(MVBench(policy, str(world / "out")), data(world))
    assert first["all"]["unparsed"] == 4
    assert first["all"]["accuracy"] == pytest.approx(1 / 6)
    assert details_of(world / "out")["unparsed_replies"]["action_count"] == ["something else"]
    module = MVBench(None, str(world / "again"), predictions=str(world / "out" / source))
    assert run_test(module, data(world, videos=None))["all"] == first["all"]


def test_recorded_files_of_another_shape_are_listed_and_the_rest_is_scored(world: Path) -> None:
    run_test(MVBench(Scripted(says), str(world / "out")), data(world))
    path = world / "out" / "action_count_policy.json"
    rows = json.loads(path.read_text())
    write_json(path, [{**rows[0], "predict": None}, {**rows[1], "candidates": None}])
    (world / "out" / "action_sequence_policy.json").unlink()
    module = MVBench(None, str(world / "again"), predictions=str(world / "out"))
    with pytest.raises(ValueError, match=r"TASK_NAME\.json") as error:
        run_test(module, data(world, videos=None))
    assert "action_sequence_policy.json" in str(error.value)
    assert "3 questions lack an answer" in str(error.value)
    assert "1 answers are to questions that are not asked" in str(error.value)
    results = run_test(module, data(world, videos=None, allow_missing=True))
    assert (results["all"]["questions"], results["about"]["left_out"]) == (2, 3)


def test_missing_tasks_videos_and_answers_are_listed(world: Path) -> None:
    with pytest.raises(ValueError, match=r"no TASK\.json for") as error:
        data(world, tasks=None).setup("test")
    assert all(task in str(error.value) for task in TASKS if task not in data(world).tasks)
    (world / "video" / "c.mp4").unlink()
    (world / "video" / "action_count" / "b.mp4").unlink()
    with pytest.raises(ValueError, match=r"2 videos are missing[\s\S]*b\.mp4[\s\S]*c\.mp4"):
        data(world).setup("test")
    results = run_test(MVBench(Scripted(says), str(world / "out")), data(world, allow_missing=True))
    assert results["all"]["tasks"] == 2
    assert results["about"]["left_out"] == 2


def test_every_fault_of_a_file_is_listed(tmp_path: Path) -> None:
    good = row("a.mp4", "What?", "dark")
    faulty = [good, {**good, "answer": "grey"}, {**good, "candidates": ["dark"]}, {**good, "candidates": None},
              {**good, "start": 1.0}, {**good, "video": "../a.mp4"}, {**good, "question": ""}]  # fmt: skip
    write_json(tmp_path / "t.json", faulty)
    with pytest.raises(ValueError, match="6 faults") as error:
        read_task(tmp_path / "t.json")
    for fault in ("row 1: has the answer 'grey'", "row 2: has 1 candidates", "row 3: has no candidates",
                 "row 4: start and end", "row 5: the video '../a.mp4'", "row 6: has no question"):  # fmt: skip
        assert fault in str(error.value)


def test_a_cut_video_is_shown_whole(world: Path) -> None:
    cut = world / "video" / "star" / "Charades_segment"
    (world / "video" / "c.mp4").unlink()
    write_video(cut / "c.mp4", 20, frames=2)
    results = run_test(MVBench(Scripted(says), str(world / "out")), data(world, tasks=["action_sequence"]))
    assert results["all"]["accuracy"] == 1


def test_a_folder_without_frames_cannot_be_decoded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no frames"):
        folder_frames(tmp_path, None, 2)


def test_a_prompt_needs_question_and_options(world: Path) -> None:
    with pytest.raises(ValueError, match="options"):
        data(world, prompt="{question}")


class Prefilled(Scripted):
    """Goes on where its answer was begun."""

    def generate(
        self,
        prompts: Sequence[str],
        frames: Sequence[Tensor],
        max_new_tokens: int,
        answer_start: str = "",
        times: Sequence[Tensor] | None = None,
    ) -> list[str]:
        self._starts = answer_start
        return super().generate(prompts, frames, max_new_tokens)


OWN = {
    "A) it falls": "A",
    "(b) it falls": "B",
    "C": "C",
    "D.": "D",
    "A.\nBut (B) may be": "A",
    "It is a dog.": None,
    "The answer is A": None,
    "A.dog": None,
    "F)": None,
    "": None,
}


@pytest.mark.parametrize("reply", OWN)
def test_the_benchmarks_own_script_reads_how_a_reply_begins(reply: str) -> None:
    assert parse_first_choice(reply) == OWN[reply]


def test_the_benchmarks_own_prompt_has_its_system_text_its_options_and_begins_the_answer(world: Path) -> None:
    policy = Prefilled(lambda prompt, brightness: "A) bright" if brightness > 100 else "It is dark, so (B)")
    module = MVBench(policy, str(world / "out"))
    results = run_test(module, data(world, prompt="mvbench", tasks=["action_count"]))
    asked = policy._asked[0]
    assert asked.startswith("Carefully watch the video and pay attention to the cause and sequence of events")
    assert asked.endswith("Question: Is it {options}?\nOptions:\n(A) bright\n(B) dark\nOnly give the best option.")
    assert policy._starts == "Best option:("
    assert results["all"]["accuracy"] == 1 / 2, "the second reply does not begin with its letter"
    assert results["all"]["unparsed"] == 1
    assert details_of(world / "out")["answer_start"] == "Best option:("
    about = results["about"]
    assert "MVBench's own script" in about["protocol"]
    assert about["remarks"] == [
        "asked with the benchmark's own prompt: compares with its leaderboard and paper, and with papers that ran its "
        "script (VideoChat2, PLLaVA), not with numbers that lmms-eval made"
    ]


def test_the_default_prompt_is_named_as_that_of_lmms_eval(world: Path) -> None:
    questions = data(world)
    results = run_test(MVBench(Scripted(says), str(world / "out")), questions)
    assert results["about"]["protocol"] == (
        "MVBench: all = mean over tasks; read as by lmms-eval 75571cfe: the first lone letter A to E"
    )
    assert results["about"]["remarks"][0].startswith("asked with lmms-eval's prompt: compares with numbers that lmms-")
    assert questions.settings()["prompt"] == "Question:{question}\nOption:\n{options}Only give the best option."
    assert "answer_start" not in questions.settings(), "answers of former versions go on"
    assert data(world, prompt=questions.prompt).chosen == questions.chosen, "the text written out is the same prompt"
    assert data(world, prompt="{question} {options}").chosen.compares == OWN_PROMPT


def test_a_policy_that_cannot_begin_its_answer_is_refused_before_it_loads(world: Path) -> None:
    class Unprompted(Scripted):
        def generate(self, prompts: Sequence[str], frames: Sequence[Tensor], max_new_tokens: int) -> list[str]:  # type: ignore[override]
            raise AssertionError("asked")

    policy = Unprompted(says)
    with pytest.raises(ValueError, match=r"Unprompted cannot begin its answers with 'Best option:\('"):
        run_test(MVBench(policy, str(world / "out")), data(world, prompt="mvbench"))
    assert not policy._asked


@pytest.mark.parametrize("root", ["data0613", "video/data0613"])
def test_videos_that_were_moved_to_data0613_are_found(world: Path, root: str) -> None:
    (world / "video" / "c.mp4").unlink()
    place = world / "video" / root / "star" / "Charades_v1_480"
    write_video(place / "c.mp4", 20, frames=8)
    questions = data(world, tasks=["action_sequence"])
    questions.setup("test")
    (key,) = questions.asked
    assert questions._asked[0].path == place / "c.mp4"
    assert key == "action_sequence/000000"


def test_the_metric_needs_no_annotation() -> None:
    metric = MVBenchMetric()
    metric.update({"t/0": {"answer": "A", "predict": "A"}, "t/1": {"answer": "B", "predict": "A"}})
    metric.update({})
    assert metric.compute()["all"]["accuracy"] == 1 / 2


def test_the_papers_row_stands_beside_ours(world: Path) -> None:
    module = MVBench(Scripted(says), str(world / "out"), paper="vista_dpo/table6/Video-LLaVA")
    paper = run_test(module, data(world))["about"]["paper"]
    (number,) = paper["numbers"]
    assert any(
        "this run action_count, action_sequence, episodic_reasoning" in reason for reason in paper["not_comparable"]
    )
    assert (number["paper"], number["ours"]) == (43.0, 100)
