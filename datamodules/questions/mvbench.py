"""MVBench (arXiv 2311.17005): twenty tasks of multiple-choice questions about videos."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, stack

from datamodules.questions.base import Question, QuestionBatches, QuestionLoader, VideoQuestions, seconds_from_first
from datamodules.questions.files import QuestionFile, lacking, read_list, refuse
from datamodules.video.codec import decode_image
from datamodules.video.containers import require_regular
from datamodules.video.frame_indices import uniform_indices

#: Task -> where its videos are in the published folder. Frames of episodic_reasoning were taken three a second.
TASKS: Mapping[str, tuple[str, ...]] = {
    "object_interaction": ("star/Charades_v1_480", "star/Charades_segment"),
    "action_sequence": ("star/Charades_v1_480", "star/Charades_segment"),
    "action_prediction": ("star/Charades_v1_480", "star/Charades_segment"),
    "action_localization": ("sta/sta_video", "sta/sta_video_segment"),
    "moving_count": ("clevrer/video_validation",),
    "fine_grained_pose": ("nturgbd", "nturgbd_convert"),
    "character_order": ("perception/videos",),
    "object_shuffle": ("perception/videos",),
    "egocentric_navigation": ("vlnqa",),
    "moving_direction": ("clevrer/video_validation",),
    "episodic_reasoning": ("tvqa/frames_fps3_hq", "tvqa/video_fps3_hq_segment"),
    "fine_grained_action": ("Moments_in_Time_Raw/videos",),
    "scene_transition": ("scene_qa/video",),
    "state_change": ("perception/videos",),
    "moving_attribute": ("clevrer/video_validation",),
    "action_antonym": ("ssv2_video", "ssv2_video_mp4"),
    "unexpected_action": ("FunQA_test/test",),
    "counterfactual_inference": ("clevrer/video_validation",),
    "object_existence": ("clevrer/video_validation",),
    "action_count": ("perception/videos",),
}
#: Folders whose videos are cut to the span already, so that it must not be applied again.
CUT_ENDING = "_segment"
#: Frames a second in a folder of frames.
FOLDER_FPS = 3.0
#: Where below the folder of videos the archives may be: some of their videos were moved to `data0613`.
ROOTS = ("", "video", "data0613", "video/data0613")
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class MVBenchPrompt:
    """Prompt of a multiple-choice question.

    Attributes:
        text: with "{question}" and "{options}", lines of "(A) choice".
        answer_start: what the policy's answer begins with, so that it has only to go on; "" = nothing.
        compares: with whose numbers an answer to it compares, for the results.
    """

    text: str
    answer_start: str
    compares: str


#: The published ways to ask. The text of "mvbench" is that of the benchmark's own script (OpenGVLab/Ask-Anything, MIT).
PROMPTS: Mapping[str, MVBenchPrompt] = {
    "lmms_eval": MVBenchPrompt(
        "Question:{question}\nOption:\n{options}Only give the best option.",
        "",
        "asked with lmms-eval's prompt: compares with numbers that lmms-eval made, not with the benchmark's own "
        "leaderboard and paper",
    ),
    "mvbench": MVBenchPrompt(
        "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
        "objects, and the action and pose of persons. Based on your observations, select the best option that "
        "accurately addresses the question.\nQuestion: {question}\nOptions:\n{options}Only give the best option.",
        "Best option:(",
        "asked with the benchmark's own prompt: compares with its leaderboard and paper, and with papers that ran its "
        "script (VideoChat2, PLLaVA), not with numbers that lmms-eval made",
    ),
}
OWN_PROMPT = "asked with a prompt of one's own: compares with no published number"
#: Names of the choices.
LETTERS = string.ascii_uppercase
#: Letters that a reply is searched for.
MOST_CHOICES = 5


class MVBenchQuestions(VideoQuestions):
    """Questions of `TASK.json`: {"video", "question", "candidates", "answer"}, some with "start" and "end" in seconds.

    Args:
        questions: the folder of the tasks' files.
        videos: the published folder of videos, one folder a task, or one flat folder; null = read no videos, to score
            answers that were recorded before. A "video" may be a folder of frames.
        tasks: which tasks; null = all twenty, which the headline number needs.
        num_frames: frames per video, spread evenly from the first to the last.
        batch_size: questions per batch and rank.
        num_workers: processes that decode.
        prompt: how a question is asked: lmms_eval, that of lmms-eval; mvbench, the benchmark's own, whose answer is
            begun with "Best option:("; or a text with "{question}" and "{options}", lines of "(A) choice".
        allow_missing: leave out questions whose video is missing or undecodable, and say so in the results.
        limit_questions: only the first questions of each task, for a quick look.
    """

    def __init__(
        self,
        questions: str,
        videos: str | None,
        tasks: list[str] | None = None,
        num_frames: int = 16,
        batch_size: int = 8,
        num_workers: int = 0,
        prompt: str = "lmms_eval",
        allow_missing: bool = False,
        limit_questions: int | None = None,
    ) -> None:
        super().__init__(videos, num_frames, batch_size, num_workers, allow_missing, limit_questions)
        chosen = PROMPTS.get(prompt, MVBenchPrompt(prompt, "", OWN_PROMPT))
        if "{question}" not in chosen.text or "{options}" not in chosen.text:
            raise ValueError(
                f"the prompt {prompt!r} lacks {{question}} or {{options}}; give such a text, or one of "
                f"{', '.join(PROMPTS)}"
            )
        self.questions = Path(questions)
        self.tasks = tuple(TASKS) if tasks is None else tuple(tasks)
        # A published text that is written out is that prompt all the same.
        known = {(published.text, published.answer_start): published for published in PROMPTS.values()}
        self.chosen = known.get((prompt, ""), chosen)
        self.prompt = self.chosen.text
        self.answer_start = self.chosen.answer_start
        #: Task -> its file, after `setup`.
        self.files: Mapping[str, QuestionFile] = {}

    def read(self) -> list[Question]:
        """Every question of every task.

        Raises:
            ValueError: files are missing (all of them), or faulty (every fault is listed).
        """
        lost = [task for task in self.tasks if not (self.questions / f"{task}.json").is_file()]
        if lost or not self.tasks:
            raise ValueError(
                f"{self.questions} has no TASK.json for {', '.join(lost) or 'any task'}; add them, or name in "
                "data.tasks those that are there"
            )
        self.files = {task: read_task(self.questions / f"{task}.json") for task in self.tasks}
        questions = []
        for task, file in self.files.items():
            for unit, row in enumerate(file.rows):
                choices = row["candidates"]
                options = "".join(f"({letter}) {choice}\n" for letter, choice in zip(LETTERS, choices, strict=False))
                # The question last: it may hold braces.
                prompt = self.prompt.replace("{options}", options).replace("{question}", row["question"])
                span = (float(row["start"]), float(row["end"])) if "start" in row else None
                letter = LETTERS[choices.index(row["answer"])]
                questions.append(Question(f"{task}/{unit:06d}", task, unit, prompt, row["video"], letter, span=span))
        return questions

    def record(self, question: Question) -> Mapping[str, Any]:
        """The published record of a question."""
        row: Mapping[str, Any] = self.files[question.part].rows[question.unit]
        return row

    def find(self, question: Question, folder: Path) -> Path | None:
        """In the folder itself, in one of its task, or where the published folder keeps it."""
        places = [Path(), Path(question.part), *map(Path, TASKS.get(question.part, ()))]
        paths = (folder / root / place / question.video for root in ROOTS for place in places)
        return next((path for path in paths if path.is_file() or path.is_dir()), None)

    def test_dataloader(self) -> QuestionLoader:
        """With folders of frames, and videos that are cut already."""
        loader = super().test_dataloader()
        batches = MVBenchBatches(loader.batches.batches, self.num_frames, self.allow_missing)
        return QuestionLoader(batches, loader.num_workers)

    def sources(self) -> dict[str, dict[str, Any]]:
        """Every task's file, its hash and its number of questions."""
        return {task: {**file.source(), "questions": len(file.rows)} for task, file in self.files.items()}

    def settings(self) -> dict[str, Any]:
        """With the prompt, and what answers were begun with."""
        start = {"answer_start": self.answer_start} if self.answer_start else {}
        return {**super().settings(), "prompt": self.prompt, **start}


class MVBenchBatches(QuestionBatches):
    """Batches of questions, of which some videos are folders of frames or cut to their span already."""

    def _decoded(self, path: Path, span: tuple[float, float] | None) -> tuple[Tensor, Tensor]:
        if path.parent.name.endswith(CUT_ENDING):
            span = None
        if not path.is_dir():
            return super()._decoded(path, span)
        return folder_frames(path, span, self.num_frames)


def folder_frames(folder: Path, span: tuple[float, float] | None, num_frames: int) -> tuple[Tensor, Tensor]:
    """(num_frames, 3, H, W) uint8 of a folder of pictures, three a second, in the order of their names; their times.

    Raises:
        ValueError: no picture in it, or one that cannot be decoded.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_ENDINGS)
    if not files:
        raise ValueError(f"{folder} holds no frames")
    last = len(files) - 1
    first, end = (0, last) if span is None else (min(round(seconds * FOLDER_FPS), last) for seconds in span)
    chosen = uniform_indices(first, max(first, end), num_frames)
    for index in set(chosen):
        require_regular(files[index])
    decoded = {index: decode_image(files[index].read_bytes()) for index in dict.fromkeys(chosen)}
    return stack([decoded[index] for index in chosen]), seconds_from_first(chosen, FOLDER_FPS)


def read_task(path: Path) -> QuestionFile:
    """One published file, checked.

    Raises:
        ValueError: not a JSON list of questions; every fault is listed with its row.
    """
    file = read_list(path)
    refuse(path, [f"row {index}: {fault}" for index, row in enumerate(file.rows) for fault in _faults(row)])
    return file


def _faults(row: Any) -> Iterator[str]:
    lacks = lacking(row, ("video", "question", "answer"))
    yield from lacks
    if lacks:
        return
    choices = row.get("candidates")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        yield "has no candidates"
    elif not 2 <= len(choices) <= MOST_CHOICES:
        yield f"has {len(choices)} candidates, not from 2 to {MOST_CHOICES}"
    elif row["answer"] not in choices:
        yield f"has the answer {row['answer']!r}, which is not among its candidates"
    times = [row[name] for name in ("start", "end") if name in row]
    if len(times) == 1 or not all(isinstance(time, int | float) for time in times):
        yield "start and end must both be numbers, or both be left out"
    if Path(row["video"]).is_absolute() or ".." in Path(row["video"]).parts:
        yield f"the video {row['video']!r} leaves its folder"
