"""Judges on the chat server of `chat_server.py`, and questions to them."""

from __future__ import annotations

from typing import Any

from lightning_modules.judges.base import JudgeQuestion
from lightning_modules.judges.endpoint import EndpointJudge

KEY = "sk-very-secret"


def judge(cache: str, **settings: Any) -> EndpointJudge:
    return EndpointJudge(**{"cache": cache, "attempts": 3, "backoff_s": 0.001, "timeout_s": 5.0, **settings})


def questions(count: int, **fields: Any) -> list[JudgeQuestion]:
    return [JudgeQuestion(f"question {number}", key=f"k{number}", **fields) for number in range(count)]


def echo(body: dict[str, Any], number: int) -> str:
    return f"reply to {body['messages'][-1]['content']}"
