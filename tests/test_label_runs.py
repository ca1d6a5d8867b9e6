"""The command labels pairs through a real endpoint: stopped by its limit, continued by two processes, asked once."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datamodules.video.codec import decode_image
from lightning_modules.judges.base import JudgeQuestion
from tests.support.chat_server import ChatServer, chat_server
from tests.support.flow_shards import LABELS
from tests.support.judged_pairs import read_labels, truth, write_judged_pairs
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


def look(body: dict[str, Any], number: int) -> str:
    """What a judge says who sees the pictures of a request; every tenth time it is lost for words."""
    urls = [part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    images = [decode_image(base64.b64decode(url.partition(",")[2])) for url in urls]
    return truth(JudgeQuestion("?", images)) if number % 10 else "Let me think about it."


def predict(folder: Path, chat: ChatServer, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vidpref", "predict", "--config", f"{ROOT}/configs/dense_dpo/segment_labels.yaml"]
    settings = {
        "data.predict": "pairs.index.json",
        "data.num_workers": 0,
        "model.judge.cache": "cache",
        "model.judge.concurrency": 2,
        "model.replies": "replies.jsonl",
        "trainer.callbacks.output": "labels",
        "trainer.default_root_dir": "run",
        "trainer.enable_progress_bar": False,
    }
    command += [f"--{name}={value}" for name, value in settings.items()] + list(flags)
    environment = {**os.environ, "OPENAI_BASE_URL": chat.url, "OPENAI_MODEL": "looks-7", "OPENAI_API_KEY": "sk-secret"}
    environment |= {"no_proxy": "127.0.0.1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_judge_that_nobody_understands_is_stopped_before_the_twentieth_request(tmp_path: Path) -> None:
    write_judged_pairs(tmp_path, count=8)  # of three segments
    with chat_server() as chat:
        chat.answer = lambda body, number: "Both have their charm."
        stopped = predict(tmp_path, chat, "--model.attempts=1")
        assert stopped.returncode == 1
        assert len(chat.requests) == 12
    assert "error: 12 of the judge's replies in a row could not be read" in stopped.stderr
    assert stopped.stderr.count("'Both have their charm.'") == 3
    assert "6 of the judge's 6 replies so far could not be read (100.0%)" in stopped.stdout
    assert "Traceback" not in stopped.stderr


def test_recorded_replies_are_labels_by_a_configuration_of_their_own(tmp_path: Path) -> None:
    write_judged_pairs(tmp_path, count=2)
    # +1, +1, 0 for p00 and ties for p01, as answered in either order of showing.
    verdicts = {("p00", 0): ("first", "second"), ("p00", 1): ("first", "second")}
    lines = [
        {"key": key, "segment": segment, "shown_first": shown_first, "reply": f"Answer: {verdict}"}
        for key in ("p00", "p01")
        for segment in range(3)
        for shown_first, verdict in zip(("first", "second"), verdicts.get((key, segment), ("tie", "tie")), strict=True)
    ]
    (tmp_path / "recorded.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "vidpref", "predict"]
    command += ["--config", f"{ROOT}/configs/dense_dpo/segment_labels_recorded.yaml"]
    command += ["--data.predict=pairs.index.json", "--data.num_workers=0", "--model.judge.replies=recorded.jsonl"]
    command += ["--trainer.callbacks.output=labels", "--trainer.default_root_dir=run", "--model.judge.name=someone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    rows = read_labels(tmp_path / "labels.index.json")
    assert [(row.labels, row.judge) for row in rows.values()] == [((1, 1, 0), "someone"), ((0, 0, 0), "someone")]


def test_a_run_that_its_limit_stopped_is_continued_by_two_processes(tmp_path: Path) -> None:
    write_judged_pairs(tmp_path)
    with chat_server() as chat:
        chat.answer = look
        stopped = predict(tmp_path, chat, "--model.judge.limit=9")
        assert stopped.returncode == 1
        assert "/v1: 30 requests with 260 pictures" in stopped.stdout
        assert "error: the limit of 9 new requests is reached" in stopped.stderr
        assert "run the same command again to continue" in stopped.stderr
        assert len(chat.requests) == 9
        assert not (tmp_path / "labels.index.json").exists()
        finished = predict(tmp_path, chat, "--trainer.devices=2")
        assert finished.returncode == 0, finished.stderr
        requests = [
            (str(body), headers["Authorization"]) for body, headers in zip(chat.requests, chat.headers, strict=True)
        ]
        assert len({body for body, _ in requests}) == len(requests), "nothing is asked twice"
        assert {key for _, key in requests} == {"Bearer sk-secret"}
    rows = read_labels(tmp_path / "labels.index.json")
    assert [row.labels for row in rows.values()] == list(LABELS[:5])
    assert {row.judge for row in rows.values()} == {"looks-7"}
    assert "pairs labelled in this run" in finished.stdout
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"sk-secret" in content for content in written)
