"""A judge over real HTTP: its settings, what it sends and keeps, what that costs, and that no secret leaves it."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest
import torch

from datamodules.video.codec import decode_image
from lightning_modules.judges.base import PICTURE, JudgeQuestion, JudgeStoppedError, Workload
from lightning_modules.judges.endpoint import TokenPrices
from lightning_modules.judges.http import ChatEndpoint
from tests.support.chat_server import ChatServer, chat_server
from tests.support.endpoint_cases import KEY, echo, judge, questions
from tests.support.paths import DATA

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


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1", "ftp://host/v1", "http:///v1", "http://user:hunter2@host/v1", "user:hunter2@host/v1",
        "https://user:hun/hunter2@host/v1", "https://host/v1?key=hunter2", "https://host/v1#hunter2",
    ],
)  # fmt: skip
def test_addresses_of_another_form_are_refused_and_their_secrets_not_told(url: str, cache: str) -> None:
    with pytest.raises(ValueError, match="not of the form") as caught:
        judge(cache, model="m", base_url=url)
    assert "hunter2" not in str(caught.value)


def test_line_ends_of_an_environment_file_are_no_part_of_key_address_and_model(
    chat: ChatServer, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("BASE_URL", chat.url), ("MODEL", "looks-7"), ("API_KEY", KEY)):
        monkeypatch.setenv(f"OPENAI_{name}", f"{value}\r\n")
    assert judge(cache).ask(questions(1)) == ["fine"]
    assert chat.requests[0]["model"] == "looks-7"
    assert chat.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", [f"{KEY}\r\nX-More: 1", f"{KEY}\u2026", f"Bearer {KEY}", f"{KEY}\x7f"])
def test_a_key_that_is_none_is_refused_and_not_told(
    chat: ChatServer, cache: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(ValueError, match="MY_KEY is no key") as caught:
        judge(cache, key_variable="MY_KEY")
    assert KEY not in str(caught.value)


def test_a_request_that_cannot_be_sent_tells_no_key(chat: ChatServer) -> None:
    with pytest.raises(ValueError, match="completions cannot be asked: ") as caught:
        ChatEndpoint(chat.url, f"{KEY}\r").complete({"model": "m", "messages": []})
    assert KEY not in "".join(format_exception(caught.value))


def test_options_are_fields_of_the_request(chat: ChatServer, cache: str) -> None:
    judge(cache, options={"temperature": 0, "guided_choice": ["first", "second"]}).ask(questions(1))
    (body,) = chat.requests
    assert body == {
        "model": "looks-7",
        "messages": [{"role": "user", "content": "question 0"}],
        "temperature": 0,
        "guided_choice": ["first", "second"],
    }


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
    assert [endpoint.ask([question])[0] for endpoint, question in others] == [
        f"reply {number}" for number in range(2, 7)
    ]
    assert "1 new requests, 1 replies from" in first.summary()
    with chat_server() as moved:
        assert judge(cache, base_url=moved.url).ask(same) == ["reply 1", "reply 1"]
        assert not moved.requests


@pytest.mark.parametrize("name", ["timeout_s", "backoff_s", "longest_wait_s"])
@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_seconds_that_are_none_are_refused(chat: ChatServer, cache: str, name: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=rf"judge\.{name} is {seconds}; give"):
        judge(cache, **{name: seconds})


def test_the_key_is_nowhere_but_in_the_header(chat: ChatServer, cache: str) -> None:
    asked = judge(cache)
    asked.ask(questions(2))
    texts = [asked.estimate(Workload(1)), asked.summary(), asked.name, repr(asked._endpoint), str(asked.settings())]
    files = [path.read_text() for path in Path(cache).rglob("*") if path.is_file()]
    assert len(files) == 2
    assert not any(KEY in text for text in [*texts, *files])


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
    estimate = judge(cache, options={"max_tokens": 50}, prices=TokenPrices(2.0, 8.0), limit=10).estimate(work)
    # 30 x 18 tokens a picture; a thousand characters in a quarter as many tokens.
    asked = 16000 * 30 * 18 + 1_000_000
    assert f"/v1: 1,000 requests with 16,000 pictures, about {asked:,} tokens of questions and 50,000" in estimate
    assert f"cost about {asked * 2e-6 + 0.4:,.2f}" in estimate
    assert estimate.endswith("stops after 10 new requests")
    twice = judge(cache, limit=10).estimate(replace(work, attempts=2))
    assert "replies; up to 2,000 requests, 2 times the tokens, where replies cannot be read; what" in twice
    assert "up to" not in estimate
    assert f"{16000 * 85 + 1_000_000:,} tokens" in judge(cache, tokens_per_image=85).estimate(work)


def test_the_summary_counts_what_the_server_says(chat: ChatServer, cache: str) -> None:
    asked = judge(cache, prices=TokenPrices(1e6, 0.0))
    asked.ask(questions(3))
    assert "300 tokens of questions and 21 of replies, cost about 300.00" in asked.summary()


def test_replies_kept_by_version_0_1_0_are_read(chat: ChatServer) -> None:
    frame = torch.arange(48, dtype=torch.uint8).view(3, 4, 4)
    asked = JudgeQuestion(f"First: {PICTURE} Which?", [frame], "a", system="Be kind.", attempt=1)
    kept = judge(str(DATA / "written_by_0_1_0/judge_cache"), options={"temperature": 0})
    assert kept.ask([asked]) == ['{"verdict": "second"}']
    assert not chat.requests
