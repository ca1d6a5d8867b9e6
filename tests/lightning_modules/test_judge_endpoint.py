"""A judge over real HTTP: what it sends, and what it makes of a server that is slow, drops, or answers nonsense."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_server import CUT, DROP, EMPTY, HANG, NONSENSE, ChatServer, chat_server

from datamodules.video_io import decode_image
from lightning_modules.policies.judge_endpoint import EndpointJudge, TokenPrices
from lightning_modules.policies.judges import PICTURE, JudgeQuestion, JudgeStoppedError, Workload

KEY = "sk-very-secret"


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    with chat_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_MODEL", "looks-7")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


def judge(cache: str, **settings: Any) -> EndpointJudge:
    return EndpointJudge(**{"cache": cache, "attempts": 3, "backoff_s": 0.001, "timeout_s": 5.0, **settings})


def questions(count: int, **fields: Any) -> list[JudgeQuestion]:
    return [JudgeQuestion(f"question {number}", key=f"k{number}", **fields) for number in range(count)]


def echo(body: dict[str, Any], number: int) -> str:
    return f"reply to {body['messages'][-1]['content']}"


# What is sent


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_pictures_travel_as_data_urls_between_the_texts(chat: ChatServer, cache: str, image_format: Any) -> None:
    frame = torch.arange(3 * 16 * 24, dtype=torch.int64).remainder(251).to(torch.uint8).view(3, 16, 24)
    asked = JudgeQuestion(f"First: {PICTURE} Second: {PICTURE} Which?", [frame, frame // 2], "k", system="Be kind.")
    judge(cache, image_format=image_format, options={"temperature": 0}).ask([asked])
    (body,) = chat.requests
    assert (body["model"], body["temperature"]) == ("looks-7", 0)
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Be kind."}
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "text", "image_url", "text"]
    assert [part["text"] for part in user["content"][::2]] == ["First: ", " Second: ", " Which?"]
    kind, _, data = user["content"][1]["image_url"]["url"].partition(";base64,")
    assert kind == f"data:image/{image_format}"
    seen = decode_image(base64.b64decode(data))
    assert seen.shape == frame.shape
    assert torch.equal(seen, frame) == (image_format == "png")
    assert chat.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_encoded_pictures_travel_as_they_are_and_others_are_refused(chat: ChatServer, cache: str) -> None:
    jpeg = b"\xff\xd8\xff\xe0rest"
    judge(cache).ask([JudgeQuestion("?", [jpeg])])
    url = chat.requests[0]["messages"][0]["content"][0]["image_url"]["url"]
    assert url == "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    with pytest.raises(ValueError, match="question 'g': a picture is neither PNG nor JPEG"):
        judge(cache).ask([JudgeQuestion("?", [b"GIF89a"], "g")])


def test_a_server_of_ones_own_needs_no_key(chat: ChatServer, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert judge(cache).ask(questions(1)) == ["fine"]
    assert "Authorization" not in chat.headers[0]


@pytest.mark.parametrize(
    ("missing", "message"),
    [("OPENAI_BASE_URL", "address.*set OPENAI_BASE_URL"), ("OPENAI_MODEL", "model is not known")],
)
def test_what_the_environment_lacks_is_named(
    chat: ChatServer, cache: str, missing: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(missing)
    with pytest.raises(ValueError, match=message):
        judge(cache)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://user:secret@host/v1", "http:///v1"])
def test_addresses_of_another_form_are_refused(url: str, cache: str) -> None:
    with pytest.raises(ValueError, match="not of the form"):
        judge(cache, model="m", base_url=url)


# Order, concurrency, cache


def test_replies_come_in_order_from_a_bounded_number_of_requests_at_once(chat: ChatServer, cache: str) -> None:
    def slow(body: dict[str, Any], number: int) -> str:
        time.sleep(0.05 if number % 2 else 0.01)
        return echo(body, number)

    chat.answer = slow
    asked = questions(12)
    assert judge(cache, concurrency=3).ask(asked) == [f"reply to question {number}" for number in range(12)]
    assert chat.most_at_once == 3


def test_nothing_is_asked_twice(chat: ChatServer, cache: str) -> None:
    chat.answer = lambda body, number: f"reply {number}"
    frame = torch.zeros(3, 8, 8, dtype=torch.uint8)
    same = [JudgeQuestion("?", [frame], "a"), JudgeQuestion("?", [frame.clone()], "b")]
    first = judge(cache)
    assert first.ask(same) == ["reply 1", "reply 1"]  # equal questions, even at the same moment
    assert judge(cache).ask(same) == ["reply 1", "reply 1"]
    assert len(chat.requests) == 1
    others = [
        (judge(cache), JudgeQuestion("?", [frame], "a", attempt=1)),
        (judge(cache), JudgeQuestion("?", [frame + 1], "a")),
        (judge(cache), JudgeQuestion("?", [frame], "a", system="x")),
        (judge(cache, options={"temperature": 1}), same[0]),
        (judge(cache, model="other"), same[0]),
    ]
    assert [one.ask([question])[0] for one, question in others] == [f"reply {number}" for number in range(2, 7)]
    assert "1 new requests, 1 replies from" in first.summary()


# Failures


@pytest.mark.parametrize("failure", [DROP, CUT, NONSENSE, (429, {}, "slow down"), (500, {}, ""), (503, {}, "{}")])
def test_what_may_pass_is_tried_again(chat: ChatServer, cache: str, failure: Any) -> None:
    chat.answer = lambda body, number: failure if number < 3 else "fine"
    assert judge(cache).ask(questions(1)) == ["fine"]
    assert len(chat.requests) == 3


@pytest.mark.parametrize(
    ("failure", "why"),
    [(DROP, "RemoteDisconnected"), (NONSENSE, "no chat completion: '<html>"), ((500, {}, "on fire"), "500: on fire")],
)
def test_a_judge_that_stays_away_says_how_to_continue(chat: ChatServer, cache: str, failure: Any, why: str) -> None:
    chat.answer = lambda body, number: failure if "question 1" in str(body) else echo(body, number)
    with pytest.raises(JudgeStoppedError, match=why) as caught:
        judge(cache, concurrency=1).ask(questions(3))
    assert "stays away after 3 attempts" in str(caught.value)
    assert "run the same command again to continue" in str(caught.value)
    asked_before = len(chat.requests)
    chat.answer = echo
    assert judge(cache).ask(questions(3)) == [f"reply to question {number}" for number in range(3)]
    assert [str(body["messages"][0]["content"]) for body in chat.requests[asked_before:]].count("question 0") == 0


def test_a_slow_server_is_given_up_and_asked_again(chat: ChatServer, cache: str) -> None:
    chat.answer = lambda body, number: HANG if number == 1 else "fine"
    begun = time.monotonic()
    assert judge(cache, timeout_s=0.2).ask(questions(1)) == ["fine"]
    assert 0.2 <= time.monotonic() - begun < 0.6


def test_a_server_that_is_not_there(chat: ChatServer, cache: str) -> None:
    with pytest.raises(JudgeStoppedError, match=r"stays away after 3 attempts.*ConnectionRefusedError"):
        judge(cache, base_url="http://127.0.0.1:9/v1").ask(questions(1))


@pytest.mark.parametrize("dated", [False, True])
def test_retry_after_is_honoured(chat: ChatServer, cache: str, dated: bool) -> None:
    # A date has whole seconds: two ahead are more than one.
    asked = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if dated else "0.3"
    chat.answer = lambda body, number: (429, {"Retry-After": asked}, "") if number == 1 else "fine"
    assert judge(cache).ask(questions(1)) == ["fine"]
    first, second = chat.times
    assert (0.9 if dated else 0.3) <= second - first < 3


def test_a_wait_that_is_too_long_stops_the_run_at_once(chat: ChatServer, cache: str) -> None:
    chat.answer = lambda body, number: (429, {"Retry-After": "3600"}, '{"error": {"message": "quota of the day"}}')
    with pytest.raises(
        JudgeStoppedError, match=r"asks to wait 3600 s: status 429: quota of the day.*again to continue"
    ):
        judge(cache).ask(questions(1))
    assert len(chat.requests) == 1


def test_waits_double_and_are_drawn_at_random(chat: ChatServer, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chat.answer = lambda body, number: (500, {}, "")
    asked = judge(cache, attempts=5, backoff_s=1.0, longest_wait_s=3.0)
    waits: list[float] = []
    monkeypatch.setattr(asked._stop, "wait", lambda seconds: bool(waits.append(seconds)))
    with pytest.raises(JudgeStoppedError):
        asked.ask(questions(1))
    assert len(waits) == 4
    assert all(top / 2 <= wait <= top for wait, top in zip(waits, (1, 2, 3, 3), strict=True))


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (
            400,
            '{"error": {"message": "temperature is not supported"}}',
            "400: temperature is not supported; check",
        ),
        (401, f'{{"error": {{"message": "no key {KEY}"}}}}', r"401: no key \*\*\*; check the key"),
        (404, '{"error": "no such model"}', "404: no such model; check base URL and model"),
        (301, "", "301: Moved Permanently; give the final address"),
    ],
)
def test_a_refusal_ends_the_run_at_once(chat: ChatServer, cache: str, status: int, content: str, message: str) -> None:
    chat.answer = lambda body, number: (status, {"Location": "http://127.0.0.1:9/"}, content)
    with pytest.raises(ValueError, match=f"question 'k0': .*{message}"):
        judge(cache, concurrency=1).ask(questions(4))
    assert len(chat.requests) <= 2


def test_a_refusal_ends_the_waiting_of_other_requests(chat: ChatServer, cache: str) -> None:
    chat.answer = lambda body, number: DROP if "question 0" in str(body) else (401, {}, "")
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"question 'k1': .*status 401"):
        judge(cache, backoff_s=60.0, concurrency=2).ask(questions(2))
    assert time.monotonic() - begun < 5


def test_one_question_that_is_filtered_or_answered_with_nothing_is_a_reply(chat: ChatServer, cache: str) -> None:
    refusal = '{"error": {"code": "content_policy_violation", "message": "not that frame"}}'
    chat.answer = lambda body, number: (400, {}, refusal) if "question 0" in str(body) else EMPTY
    assert judge(cache).ask(questions(2)) == ["[refused: not that frame]", ""]


def test_the_key_is_nowhere_but_in_the_header(chat: ChatServer, cache: str) -> None:
    asked = judge(cache)
    asked.ask(questions(2))
    told = [asked.estimate(Workload(1)), asked.summary(), asked.name, repr(asked._endpoint), str(asked.settings())]
    files = [path.read_text() for path in Path(cache).rglob("*") if path.is_file()]
    assert len(files) == 2
    assert not any(KEY in text for text in [*told, *files])


# Limit and cost


def test_the_limit_stops_and_the_next_run_goes_on(chat: ChatServer, cache: str) -> None:
    chat.answer = echo
    for run in range(2):
        with pytest.raises(JudgeStoppedError, match=r"limit of 2 new requests is reached\. 2 new requests were made"):
            judge(cache, limit=2, concurrency=1).ask(questions(5))
        assert len(chat.requests) == 2 * (run + 1)
    assert judge(cache, limit=2).ask(questions(5)) == [f"reply to question {number}" for number in range(5)]
    assert len(chat.requests) == 5


def test_nothing_new_is_asked_with_a_limit_of_zero(chat: ChatServer, cache: str) -> None:
    with pytest.raises(JudgeStoppedError, match="limit of 0"):
        judge(cache, limit=0).ask(questions(1))
    assert not chat.requests
    with pytest.raises(ValueError, match=r"judge\.limit is -1"):
        judge(cache, limit=-1)


def test_the_estimate_counts_requests_pictures_tokens_and_money(chat: ChatServer, cache: str) -> None:
    work = Workload(questions=1000, images=16000, characters=4_000_000, image_size=(832, 480))
    told = judge(cache, options={"max_tokens": 50}, prices=TokenPrices(2.0, 8.0), limit=10).estimate(work)
    # 30 x 18 tokens a picture; a thousand characters in a quarter as many tokens.
    asked = 16000 * 30 * 18 + 1_000_000
    assert f"at most 1,000 requests with 16,000 pictures, about {asked:,} tokens of questions and 50,000" in told
    assert f"cost about {asked * 2e-6 + 0.4:,.2f}" in told
    assert told.endswith("stops after 10 new requests")
    assert f"{16000 * 85 + 1_000_000:,} tokens" in judge(cache, tokens_per_image=85).estimate(work)


def test_the_summary_counts_what_the_server_says(chat: ChatServer, cache: str) -> None:
    asked = judge(cache, prices=TokenPrices(1e6, 0.0))
    asked.ask(questions(3))
    assert "300 tokens of questions and 21 of replies, cost about 300.00" in asked.summary()
