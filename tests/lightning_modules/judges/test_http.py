"""What a judge makes of a server that is slow, drops, refuses, or answers nonsense."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from traceback import format_exception
from typing import Any

import openai
import pytest

from lightning_modules.judges.base import JudgeStoppedError
from tests.support.chat_server import CUT, DRIP, DROP, EMPTY, HANG, NONSENSE, SILENT, ChatServer
from tests.support.endpoint_cases import KEY, echo, judge, questions


@pytest.mark.parametrize(
    "failure",
    [
        DROP, CUT, NONSENSE, (429, {}, "slow down"), (500, {}, ""), (503, {}, "{}"), (200, {}, '{"error": "busy"}'),
        (200, {}, "[]"),
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again(chat: ChatServer, cache: str, failure: Any) -> None:
    chat.answer = lambda body, number: failure if number < 3 else "fine"
    assert judge(cache).ask(questions(1)) == ["fine"]
    assert len(chat.requests) == 3


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (DROP, "RemoteProtocolError: Server disconnected"),
        (NONSENSE, "no chat completion: '<html>"),
        ((500, {}, "on fire"), "500: on fire"),
    ],
)
def test_a_judge_that_stays_away_says_how_to_continue(chat: ChatServer, cache: str, failure: Any, why: str) -> None:
    chat.answer = lambda body, number: failure if "question 1" in str(body) else echo(body, number)
    with pytest.raises(JudgeStoppedError, match=why) as caught:
        judge(cache, concurrency=1).ask(questions(3))
    assert "gave no reply in 3 attempts" in str(caught.value)
    assert "run the same command again to continue" in str(caught.value)
    asked_before = len(chat.requests)
    chat.answer = echo
    assert judge(cache).ask(questions(3)) == [f"reply to question {number}" for number in range(3)]
    assert [str(body["messages"][0]["content"]) for body in chat.requests[asked_before:]].count("question 0") == 0


def test_a_slow_server_is_given_up_and_asked_again(chat: ChatServer, cache: str) -> None:
    chat.answer = lambda body, number: HANG if number == 1 else "fine"
    begun = time.monotonic()
    assert judge(cache, timeout_s=0.2).ask(questions(1)) == ["fine"]
    assert 0.2 <= time.monotonic() - begun < 2.5


@pytest.mark.parametrize("failure", [SILENT, DRIP])
def test_a_reply_that_never_ends_is_given_up_in_time(chat: ChatServer, cache: str, failure: str) -> None:
    chat.answer = lambda body, number: failure
    begun = time.monotonic()
    with pytest.raises(JudgeStoppedError, match=r"2 attempts.*TimeoutError: the reply was not complete after 0\.3 s"):
        judge(cache, timeout_s=0.3, attempts=2).ask(questions(1))
    assert 0.6 <= time.monotonic() - begun < 5
    assert len(chat.requests) == 2


def test_the_client_is_closed_at_the_end(chat: ChatServer, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clients: list[openai.OpenAI] = []
    make = openai.OpenAI.__init__

    def remembered(self: openai.OpenAI, **settings: Any) -> None:
        make(self, **settings)
        clients.append(self)

    monkeypatch.setattr(openai.OpenAI, "__init__", remembered)
    asked = judge(cache)
    asked.ask(questions(3))
    assert [client.is_closed() for client in clients] == [True]  # one for all requests
    asked.ask(questions(3))
    assert len(clients) == 1  # everything was known
    chat.answer = lambda body, number: (401, {}, "")
    with pytest.raises(ValueError, match="401"):
        asked.ask(questions(4))
    assert [client.is_closed() for client in clients] == [True, True]


def test_a_server_that_is_not_there(chat: ChatServer, cache: str) -> None:
    with pytest.raises(JudgeStoppedError, match=r"gave no reply in 3 attempts.*ConnectError: .*refused"):
        judge(cache, base_url="http://127.0.0.1:9/v1").ask(questions(1))


def test_retry_after_is_honoured(chat: ChatServer, cache: str) -> None:
    chat.answer = lambda body, number: (429, {"Retry-After": "0.3"}, "") if number == 1 else "fine"
    assert judge(cache).ask(questions(1)) == ["fine"]
    first, second = chat.times
    assert 0.3 <= second - first < 3


@pytest.mark.parametrize("dated", [False, True])
def test_a_wait_that_is_too_long_stops_the_run_at_once(chat: ChatServer, cache: str, dated: bool) -> None:
    """Retry-After is a number of seconds, or a date in whole seconds."""
    hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True) if dated else "3600"
    chat.answer = lambda body, number: (429, {"Retry-After": hour}, '{"error": {"message": "quota of the day"}}')
    seconds = r"3(5[89]\d|600)" if dated else "3600"
    with pytest.raises(
        JudgeStoppedError, match=rf"asks to wait {seconds} s: status 429: quota of the day.*again to continue"
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
    assert len(chat.requests) == 1


@pytest.mark.parametrize("status", [401, 429, 200])
def test_a_key_that_the_server_repeats_is_in_no_traceback(chat: ChatServer, cache: str, status: int) -> None:
    chat.answer = lambda body, number: (status, {}, f'{{"error": {{"message": "no key {KEY}"}}}}')
    with pytest.raises((ValueError, JudgeStoppedError), match=r"no key \*\*\*") as caught:
        judge(cache).ask(questions(1))
    assert KEY not in "".join(format_exception(caught.value))


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


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ({"choices": []}, ""),
        ({"choices": None, "error": None}, ""),
        ({"choices": [{"message": None}]}, ""),
        ({"choices": [{"message": {"content": None, "refusal": "no"}}]}, "no"),
        ({"choices": [{"message": {"content": [{"text": None}, {"text": "fine"}, 3]}}]}, "fine"),
        ({"choices": [{"message": {"content": "fine"}}], "usage": {"prompt_tokens": "n/a"}}, "fine"),
        ({"choices": [{"message": {"content": "fine"}}], "usage": [1]}, "fine"),
    ],
)
def test_an_answer_of_odd_form_is_a_reply(chat: ChatServer, cache: str, answer: Any, reply: str) -> None:
    chat.answer = lambda body, number: (200, {}, json.dumps(answer))
    asked = judge(cache)
    assert asked.ask(questions(1)) == [reply]
    assert len(chat.requests) == 1
    assert "; 0 tokens of questions" in asked.summary()


@pytest.mark.parametrize(("status", "requests"), [(400, 1), (413, 1), (422, 1), (500, 3)])
def test_one_question_that_always_fails_is_named_and_can_be_skipped(
    chat: ChatServer, cache: str, status: int, requests: int
) -> None:
    chat.answer = lambda body, number: (status, {}, "too long") if "question 1" in str(body) else echo(body, number)
    asked = questions(3, segment=4, shown_first="second")
    message = r"question 'k1', segment 4, second video .* set judge\.on_failed_question to skip"
    with pytest.raises((ValueError, JudgeStoppedError), match=message):
        judge(cache, concurrency=1).ask(asked)
    skips = judge(cache, concurrency=1, on_failed_question="skip")
    chat.requests.clear()
    first, failed, last = skips.ask(asked)
    assert (first, last) == ("reply to question 0", "reply to question 2")
    assert re.fullmatch(rf"\[failed: .*status {status}: too long.*\]", failed)
    skips.ask(asked)
    # In each of both runs: a failure is not kept as a reply.
    assert sum("question 1" in str(body) for body in chat.requests) == 2 * requests


@pytest.mark.parametrize("failure", [(401, {}, ""), (404, {}, ""), (503, {}, ""), DROP])
def test_what_is_due_to_no_question_is_not_skipped(chat: ChatServer, cache: str, failure: Any) -> None:
    chat.answer = lambda body, number: failure
    with pytest.raises((ValueError, JudgeStoppedError), match="question 'k0': ") as caught:
        judge(cache, on_failed_question="skip").ask(questions(1))
    assert "on_failed_question" not in str(caught.value)
