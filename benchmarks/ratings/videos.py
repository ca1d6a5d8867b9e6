"""VisionReward as a benchmark: a judge answers its list of questions about every video of a folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.answers import Answer
from benchmarks.base.bootstrap import Intervals, intervals
from benchmarks.base.judge_replies import UnparsedCounts
from benchmarks.ratings.judge import RatingBenchmark
from benchmarks.ratings.visionreward import NUM_QUESTIONS, SELECTED, dense_dpo_columns, dimensions, score
from datamodules.questions.base import Question
from datamodules.questions.checklist import ChecklistQuestions
from datamodules.questions.rated_videos import VIDEOS
from lightning_modules.judges.base import Judge

#: DenseDPO's columns as the results name them.
COLUMNS: Mapping[str, str] = {
    "TA": "text_alignment",
    "VQ": "visual_quality",
    "TC": "temporal_consistency",
    "DD": "dynamic_degree",
}
#: How a reply becomes an answer: exactly "yes" as published, or by its first word, for judges that write sentences.
Reading = Literal["published", "first_word"]
_FIRST_WORD = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def read_reply(reply: str, reading: Reading) -> str:
    """The answer "yes" or "no"; the reply itself where it is neither, which counts as no."""
    if reading == "published":
        return reply
    match = _FIRST_WORD.match(reply)
    return reply if match is None else match[1].lower()


def rate(answers: Sequence[str]) -> dict[str, float]:
    """All numbers of one video.

    Args:
        answers: to all 64 questions, or to the 29 selected ones; anything but "yes" counts as no.

    Returns:
        "score", the reward; with 64 answers also DenseDPO's four columns and the nine dimensions ("Alignment" ...).

    Raises:
        ValueError: another number of answers.
    """
    if len(answers) == len(SELECTED):  # columns and dimensions need all 64
        return {"score": score(answers)}
    columns = {COLUMNS[name]: value for name, value in dense_dpo_columns(answers).items()}
    return {"score": score([answers[number - 1] for number in SELECTED]), **columns, **dimensions(answers)}


def summary(videos: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The means over videos.

    Args:
        videos: name -> its answers.

    Returns:
        The means of all numbers that `rate` gives, the nine dimensions under "dimensions"; "videos", and "unparsed":
        how many answers were neither "yes" nor "no".

    Raises:
        ValueError: no video.
    """
    if not videos:
        raise ValueError("no video has all its answers")
    rows = [rate(answers) for answers in videos.values()]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    nine = {name: value for name, value in means.items() if name[0].isupper()}  # "Alignment" ..., not "score"
    return {
        **{name: value for name, value in means.items() if name not in nine},
        **({"dimensions": nine} if nine else {}),
        "videos": len(rows),
        "unparsed": sum(answer not in ("yes", "no") for answers in videos.values() for answer in answers),
    }


class VisionRewardMetric(AnswerMetric):
    """Metric of `summary` over answers in any order and from any rank.

    `update` takes question's key -> {"predict": the answer, "video": its name, "number": the question's, "of": the
    number of questions}. A video that lacks answers is left out.
    """

    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The means."""
        return summary(_by_video([item for item in items.values() if "predict" in item]))


class VisionReward(RatingBenchmark):
    """Benchmark of generated videos by a judge's answers to VisionReward's questions.

    Into `output` go `videos_NAME.json` (every video's numbers and answers), `results.json`, `details.json` and
    `answers.jsonl`.

    Args:
        judge: answers about the videos; the published numbers are of VisionReward's own model. Null with `predictions`.
        output: the folder for the results; an unfinished evaluation in it is continued.
        predictions: recorded replies to score: the `answers.jsonl` of another run, or lines of {"key", "reply"} with
            the key "videos/FILE/NN", NN being the question from 00; null with `judge`.
        reading: "published" = only exactly "yes" is a yes; "first_word" = the reply's first word counts, for other
            judges than VisionReward's own.
    """

    title = "VisionReward"
    protocol = "VisionReward 511960d6: 29 weighted questions; DenseDPO's columns: unweighted means of 64, inferred"
    percent = False
    logged = {name: name for name in ("score", *COLUMNS.values(), "unparsed")}  # noqa: RUF012

    def __init__(
        self,
        judge: Judge | None,
        output: str,
        predictions: str | None = None,
        reading: Reading = "published",
        **options: Any,
    ) -> None:
        super().__init__(judge, output, VisionRewardMetric(), predictions, **options)
        self.reading: Reading = reading

    @property
    def questions(self) -> ChecklistQuestions:
        """The data module of the questions."""
        questions: ChecklistQuestions = self.data_module(ChecklistQuestions)
        return questions

    def setup(self, stage: str) -> None:
        """Check the list of questions, then what all benchmarks check.

        Raises:
            ValueError: it is neither of the published lists.
        """
        count = len(self.questions.checklist)
        if count not in (NUM_QUESTIONS, len(SELECTED)):
            raise ValueError(
                f"{self.questions.questions} holds {count} questions; the published lists have {NUM_QUESTIONS} "
                f"(VisionReward_video_qa.txt) and {len(SELECTED)} (VisionReward_video_qa_select.txt)"
            )
        super().setup(stage)

    def readable(self, reply: str) -> bool:
        """Whether it is a yes or a no."""
        return read_reply(reply, self.reading) in ("yes", "no")

    def item(self, question: Question, answer: Answer) -> dict[str, Any]:
        """The answer, with its video and question."""
        return {
            "predict": read_reply(answer["predict"], self.reading),
            "video": question.video,
            "number": int(question.key.rpartition("/")[2]),
            "of": len(self.questions.checklist),
        }

    def predictions_of(self, answers: Mapping[str, Answer]) -> dict[str, list[dict[str, Any]]]:
        """Every video with all its answers, and its numbers."""
        videos = _by_video(list(answers.values()))
        return {
            VIDEOS: [
                {"video": video, **rate(own_answers), "answers": own_answers} for video, own_answers in videos.items()
            ]
        }

    def files(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """One file with all videos."""
        return {f"videos_{self.name}.json": predictions[VIDEOS]}

    def intervals(self, predictions: Mapping[str, Any], seed: int) -> Intervals:
        """The intervals of the score and of DenseDPO's columns, videos resampled."""
        rows = predictions[VIDEOS]
        names = [name for name in ("score", *COLUMNS.values()) if name in rows[0]]
        hits = np.array([[row[name] for name in names] for row in rows])
        # One part without a name, so that its addresses are a slash and the number's name.
        ends_of = intervals({"": hits}, {"": np.ones_like(hits)}, names, {}, seed)
        return {address.removeprefix("/"): ends for address, ends in ends_of.items()}

    def unparsed(self, results: Mapping[str, Any]) -> UnparsedCounts:
        """Those of every number: an answer that is neither yes nor no counts as no."""
        total = results["videos"] * len(self.questions.checklist)
        return {name: (results["unparsed"], total) for name in ("score", *COLUMNS.values()) if name in results}

    def details(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """How replies were read, and the replies that are neither yes nor no with their counts."""
        answers = [answer for row in predictions[VIDEOS] for answer in row["answers"]]
        unread = Counter(answer for answer in answers if answer not in ("yes", "no"))
        return {"reading": self.reading, "unparsed_replies": dict(unread.most_common())}

    def settings(self) -> dict[str, Any]:
        """Those of every benchmark, and the list's length: another list has other questions under these numbers."""
        return {**super().settings(), "questions": len(self.questions.checklist)}


def _by_video(items: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Video -> its answers in the list's order; without the videos that lack some."""
    answers_of: dict[str, dict[int, str]] = {}
    num_questions: dict[str, int] = {}
    for item in items:
        answers_of.setdefault(item["video"], {})[item["number"]] = item["predict"]
        num_questions[item["video"]] = item["of"]
    return {
        video: [answers[number] for number in sorted(answers)]
        for video, answers in answers_of.items()
        if len(answers) == num_questions[video]
    }
