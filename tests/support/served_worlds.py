"""Small question sets of every benchmark that scores answers about videos, and a server that looks before it answers.

Two videos, one bright and one dark. The server is right about brightness but for the questions that hold "tricky", so
that every benchmark's numbers are known, and neither all nor none of the answers are right.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Literal

import cv2
import numpy as np
from lightning.pytorch import LightningDataModule

from benchmarks.base.benchmark import Benchmark
from benchmarks.base.results import number_at
from benchmarks.event_hallusion.module import EventHallusion
from benchmarks.mvbench.module import MVBench
from benchmarks.open_qa.module import ActivityNetQa, MsrvttQa, MsvdQa, TgifQa
from benchmarks.video_hallucer.module import VideoHallucer
from benchmarks.videochatgpt.module import VideoChatGpt
from datamodules.questions.event_hallusion import EventQuestions
from datamodules.questions.mvbench import MVBenchQuestions
from datamodules.questions.open_qa import OpenQuestions
from datamodules.questions.video_hallucer import VideoHallucerQuestions
from datamodules.questions.videochatgpt import VideoChatGptQuestions
from datamodules.video.codec import decode_frames
from lightning_modules.judges.base import JudgeQuestion
from lightning_modules.judges.endpoint_video_llm import EndpointVideoLLM
from tests.support.qa_world import ScriptedJudge, run_test, write_json, write_video

NUM_FRAMES = 3
#: Three questions a batch, so that one batch is about both videos.
SHOWN: dict[str, Any] = {"num_frames": NUM_FRAMES, "batch_size": 3}


def looks(body: dict[str, Any], number: int) -> str:
    """The answer to a request: yes or no, a letter, or a word, by what its pictures or its video show."""
    *shown, text = body["messages"][-1]["content"]
    bright = brightness(shown) > 100
    said = "bright" if bright != ("tricky" in text["text"]) else "dark"
    if "(A)" in text["text"]:
        return f"({'A' if said == 'bright' else 'B'}) {said}"
    if "Is it" in text["text"]:
        return "Yes." if f"Is it {said}" in text["text"] else "No."
    return said


def brightness(parts: list[dict[str, Any]]) -> float:
    """The mean of what a request shows: pictures one by one, or a video of as many frames."""
    if parts[0]["type"] == "video_url":
        (part,) = parts
        with NamedTemporaryFile(suffix=".mp4") as file:
            file.write(base64.b64decode(part["video_url"]["url"].removeprefix("data:video/mp4;base64,")))
            file.flush()
            return float(decode_frames(Path(file.name), range(NUM_FRAMES)).float().mean())
    assert len(parts) == NUM_FRAMES
    data = [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in parts]
    return float(np.mean([cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR) for one in data]))


@dataclass(frozen=True, slots=True)
class Served:
    """A benchmark over a small world.

    Attributes:
        write: writes its questions to a folder.
        data: its data module for that folder.
        module: the benchmark, of a policy and an output folder.
        numbers: address in the results -> value.
        requests: different questions that are asked.
    """

    write: Callable[[Path], None]
    data: Callable[[Path], LightningDataModule]
    module: Callable[[Any, str], Benchmark]
    numbers: Mapping[str, float]
    requests: int


def _hallucer(folder: Path) -> None:
    def half(video: str, question: str, answer: str) -> dict[str, str]:
        return {"video": f"{video}.mp4", "question": question, "answer": answer}

    pairs = [
        {"basic": half("bright", "Is it bright?", "yes"), "hallucination": half("bright", "Is it dark?", "no")},
        {"basic": half("dark", "Is it dark?", "yes"), "hallucination": half("dark", "Is it bright, tricky?", "no")},
    ]
    write_json(folder / "semantic_detail.json", pairs)


def _events(folder: Path) -> None:
    for split, video in (("entire", "bright"), ("misleading", "dark")):
        asked = [("Is it bright?", "Yes." if video == "bright" else "No."), ("Is it dark, tricky?", "No.")]
        questions = [{"type": "x", "question": question, "answer": answer} for question, answer in asked]
        record = {"id": video, "event_info": {"caption": "a lamp"}, "questions": questions}
        write_json(folder / f"{split}_questions.json", [record])


def _choices(folder: Path) -> None:
    rows = [("bright", "How is it?", "bright"), ("dark", "How is it?", "dark"), ("dark", "How, tricky?", "dark")]
    names = ("video", "question", "answer")
    content = [dict(zip(names, row, strict=True)) | {"candidates": ["bright", "dark"]} for row in rows]
    write_json(folder / "action_count.json", [{**row, "video": f"{row['video']}.mp4"} for row in content])


#: Of the open questions: video, question, answer. The last is answered wrongly.
OPEN = (("bright", "how is it", "bright"), ("dark", "how is it", "dark"), ("dark", "how is it, tricky", "dark"))
NUMBERS = {"bright": 1, "dark": 2}


def _open(dataset: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        rows = [{"id": n, "video_id": NUMBERS[v], "question": q, "answer": a} for n, (v, q, a) in enumerate(OPEN)]
        if dataset == "tgif_qa":
            lines = ["gif_name\tquestion\tanswer\ttype", *(f"{v}\t{q}\t{a}\t2" for v, q, a in OPEN)]
            (folder / "questions.csv").write_text("\n".join(lines) + "\n")
        elif dataset == "activitynet_qa":
            ids = [f"v_{row['id']}" for row in rows]
            asked = [{"video_name": v, "question": q, "question_id": i} for i, (v, q, _) in zip(ids, OPEN, strict=True)]
            write_json(folder / "questions.json", asked)
            answers = [{"answer": a, "type": 4, "question_id": i} for i, (*_, a) in zip(ids, OPEN, strict=True)]
            write_json(folder / "answers.json", answers)
        else:
            write_json(folder / "questions.json", rows)

    return write


def _open_data(dataset: Any, prefix: str) -> Callable[[Path], LightningDataModule]:
    def data(folder: Path) -> LightningDataModule:
        for name, number in NUMBERS.items():
            value = 220 if name == "bright" else 20
            write_video(folder / "videos" / f"{prefix}{number if prefix in ('vid', 'video') else name}.mp4", value)
        file = "questions.csv" if dataset == "tgif_qa" else "questions.json"
        answers = str(folder / "answers.json") if dataset == "activitynet_qa" else None
        return OpenQuestions(dataset, str(folder / file), str(folder / "videos"), answers, **SHOWN)

    return data


def _generic(folder: Path) -> None:
    asked = [{"Q": q, "A": a, "video_name": v} for v, q, a in OPEN]
    write_json(folder / "generic_qa.json", asked)
    write_json(folder / "temporal_qa.json", asked[:1])
    twice = {"Q1": "how is it", "Q2": "how, really", "A": "dark", "video_name": "dark"}
    write_json(folder / "consistency_qa.json", [twice])


def _judged(question: JudgeQuestion) -> str:
    """Five where the answer that is judged is right, one elsewhere."""
    predicted = question.text.partition("Predicted Answer")[2]
    correct = question.text.partition("Correct Answer: ")[2].split("\n")[0]
    return f"{{'score': {5 if correct in predicted else 1}}}"


def _videos(folder: Path) -> str:
    for name, value in (("bright", 220), ("dark", 20)):
        write_video(folder / "videos" / f"{name}.mp4", value)
    return str(folder / "videos")


_OPEN_NUMBERS = {"normalized_exact_match/All": 2 / 3}
SERVED: dict[str, Served] = {
    "video_hallucer": Served(
        _hallucer, lambda folder: VideoHallucerQuestions(str(folder), _videos(folder), **SHOWN), VideoHallucer,
        {"all/basic_accuracy": 1.0, "all/halluc_accuracy": 0.5, "all/accuracy": 0.5}, 4,
    ),
    "event_hallusion": Served(
        _events, lambda folder: EventQuestions(str(folder), _videos(folder), **SHOWN), EventHallusion,
        {"entire/binary_accuracy": 0.5, "misleading/binary_accuracy": 1.0, "all/binary_accuracy": 0.75}, 4,
    ),
    "mvbench": Served(
        _choices,
        lambda folder: MVBenchQuestions(str(folder), _videos(folder), tasks=["action_count"], **SHOWN),
        MVBench, {"all/accuracy": 2 / 3}, 3,
    ),
    "msvd_qa": Served(_open("msvd_qa"), _open_data("msvd_qa", "vid"), MsvdQa, _OPEN_NUMBERS, 3),
    "msrvtt_qa": Served(_open("msrvtt_qa"), _open_data("msrvtt_qa", "video"), MsrvttQa, _OPEN_NUMBERS, 3),
    "tgif_qa": Served(_open("tgif_qa"), _open_data("tgif_qa", ""), TgifQa, _OPEN_NUMBERS, 3),
    "activitynet_qa": Served(
        _open("activitynet_qa"), _open_data("activitynet_qa", "v_"), ActivityNetQa, _OPEN_NUMBERS, 3,
    ),
    "videochatgpt": Served(
        _generic, lambda folder: VideoChatGptQuestions(str(folder), _videos(folder), **SHOWN),
        lambda policy, output: VideoChatGpt(policy, output, judge=ScriptedJudge(_judged)),
        {"correctness/average_score": 11 / 3, "temporal/average_score": 5.0, "consistency/average_score": 5.0}, 4,
    ),
}  # fmt: skip


def run_served(
    name: str, folder: str, send: Literal["frames", "video"], url: str, output: str = "out", **settings: Any
) -> dict[str, Any]:
    """Test a served model in a benchmark's world, which is written where it is not there; its results.

    Args:
        name: the benchmark, of `SERVED`.
        folder: of the world, the cache and the outputs.
        send: how videos are sent.
        url: of the server.
        output: the run's own folder below.
        settings: of the policy.
    """
    os.environ["no_proxy"] = "127.0.0.1"  # this may be a process that knows nothing of the test's environment
    case, place = SERVED[name], Path(folder)
    place.mkdir(exist_ok=True)
    case.write(place)
    known = {"cache": str(place / "cache"), "concurrency": 1, "attempts": 1, "timeout_s": 20.0}
    policy = EndpointVideoLLM("looks-7", url, send=send, **known | settings)
    return run_test(case.module(policy, str(place / output)), case.data(place))


def numbers_of(name: str, results: dict[str, Any]) -> dict[str, float | None]:
    """The benchmark's numbers that are known."""
    return {address: number_at(results, address) for address in SERVED[name].numbers}


def requests_in(folder: Path) -> int:
    """Answers in the cache."""
    return sum("reply" in json.loads(path.read_text()) for path in (folder / "cache").glob("*/*.json"))
