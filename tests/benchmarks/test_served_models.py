"""Every benchmark of video-language models on a served model: right videos, bounded concurrency, cache, resume."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import vidpref
from lightning_modules.judges.base import JudgeStoppedError
from tests.support.chat_server import ChatServer, chat_server
from tests.support.kills import killed
from tests.support.served_worlds import SERVED, looks, numbers_of, requests_in, run_served
from tests.support.slow_params import slow_but

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
NAMES = slow_but(("event_hallusion",), SERVED)


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    """A server that looks at what it is shown."""
    with chat_server() as server:
        server.answer = looks
        yield server


@pytest.mark.parametrize("send", ["frames", "video"])
@pytest.mark.parametrize("name", NAMES)
def test_a_served_model_is_scored(name: str, send: Any, chat: ChatServer, tmp_path: Path) -> None:
    """By what it sees of each video; a second run in the same folder asks nothing, one in another reads the cache."""
    results = run_served(name, str(tmp_path), send, chat.url)
    assert numbers_of(name, results) == pytest.approx(SERVED[name].numbers)
    assert len(chat.requests) == SERVED[name].requests
    assert run_served(name, str(tmp_path), send, chat.url) == results
    again = run_served(name, str(tmp_path), send, chat.url, output="elsewhere")
    assert numbers_of(name, again) == pytest.approx(SERVED[name].numbers)
    assert len(chat.requests) == SERVED[name].requests


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_under_way_together_and_no_more(name: str, chat: ChatServer, tmp_path: Path) -> None:
    def slowly(body: dict[str, Any], number: int) -> str:
        time.sleep(0.1)
        return looks(body, number)

    chat.answer = slowly
    results = run_served(name, str(tmp_path), "frames", chat.url, concurrency=2)
    assert numbers_of(name, results) == pytest.approx(SERVED[name].numbers)
    assert chat.most_at_once == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_was_stopped_goes_on(name: str, chat: ChatServer, tmp_path: Path) -> None:
    with pytest.raises(JudgeStoppedError, match="run the same command again to continue"):
        run_served(name, str(tmp_path), "frames", chat.url, limit=1)
    results = run_served(name, str(tmp_path), "frames", chat.url)
    assert numbers_of(name, results) == pytest.approx(SERVED[name].numbers)
    assert len(chat.requests) == SERVED[name].requests


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED)
def test_a_killed_run_goes_on_and_pays_at_most_for_what_was_under_way(
    name: str, chat: ChatServer, tmp_path: Path
) -> None:
    """Killed where an answer is being kept, and where the benchmark writes its own log."""
    work = partial(run_served, name, str(tmp_path), "video", chat.url)
    deaths = sum(killed(work, moment) for moment in (1, 2, 5))
    assert deaths >= 2
    assert not (tmp_path / "out" / "results.json").exists()
    results = run_served(name, str(tmp_path), "video", chat.url)
    assert numbers_of(name, results) == pytest.approx(SERVED[name].numbers)
    assert requests_in(tmp_path) == SERVED[name].requests
    assert SERVED[name].requests < len(chat.requests) <= SERVED[name].requests + deaths


@pytest.mark.slow
def test_the_command_takes_a_served_model(
    chat: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the configuration of its own; and in the place of another benchmark's policy."""
    for variable, value in (("OPENAI_BASE_URL", chat.url), ("OPENAI_MODEL", "looks-7"), ("no_proxy", "127.0.0.1")):
        monkeypatch.setenv(variable, value)
    SERVED["video_hallucer"].write(tmp_path)
    SERVED["video_hallucer"].data(tmp_path)  # for the videos
    shown = ["--data.num_frames", "3", "--data.num_workers", "0", "--trainer.enable_progress_bar", "false"]
    status = vidpref.main(
        ["test", "--config", "configs/benchmarks/served_model.yaml", "--model.policy.cache", str(tmp_path / "cache"),
         "--model.output", str(tmp_path / "out"), "--trainer.default_root_dir", str(tmp_path),
         "--data.questions", str(tmp_path), "--data.videos", str(tmp_path / "videos"),
         "--data.subsets", "[semantic_detail]", *shown]
    )  # fmt: skip
    assert status == 0
    assert len(chat.requests) == 4
    capsys.readouterr()
    SERVED["event_hallusion"].write(tmp_path / "events")
    status = vidpref.main(
        ["test", "--config", "configs/benchmarks/event_hallusion.yaml", "--model.policy", "EndpointVideoLLM",
         "--model.policy.send", "video", "--model.policy.cache", str(tmp_path / "cache"),
         "--model.name", "served", "--model.output", str(tmp_path / "events" / "out"), "--model.paper", "null",
         "--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu", "--trainer.devices", "1",
         "--data.questions", str(tmp_path / "events"), "--data.videos", str(tmp_path / "videos"), *shown]
    )  # fmt: skip
    assert status == 0
    assert len(chat.requests) == 8
