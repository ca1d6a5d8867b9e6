"""One request to an OpenAI-compatible chat endpoint, with bounded retries."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from lightning_modules.judges.base import JudgeStoppedError

#: Statuses besides 5xx after which trying again may help: timeout, conflict, too early, too many requests.
_PASSING = (408, 409, 425, 429)
#: Error codes of an endpoint that will not look at one question's content; the next question may pass.
_FILTERED = ("content_filter", "content_policy_violation")
#: Statuses that may be due to one question: its form, its size, or a server that breaks on it. The others are not.
OF_ONE_QUESTION = (400, 413, 422, 500)
_LONGEST_REPLY = 1 << 24


class Completion(NamedTuple):
    """A reply and what it took, in tokens as the endpoint counts them (0 where it does not say)."""

    reply: str
    prompt_tokens: int = 0
    reply_tokens: int = 0


class StaysAwayError(JudgeStoppedError):
    """No attempt brought a reply; `status` is the HTTP status of the last one, 0 where there was none."""

    def __init__(self, why: str, status: int) -> None:
        super().__init__(why)
        self.status = status


class RefusedError(ValueError):
    """The server refuses a request, and would again; `status` is its HTTP status."""

    def __init__(self, why: str, status: int) -> None:
        super().__init__(why)
        self.status = status


class _PassingError(Exception):
    """A failure that may pass; `wait_s` is how long the server asks to wait."""

    def __init__(self, why: str, wait_s: float = 0.0, status: int = 0) -> None:
        super().__init__(why)
        self.wait_s = wait_s
        self.status = status


class _StayHere(HTTPRedirectHandler):
    """Redirects are errors: following one would send the key to another host, or turn POST into GET."""

    def redirect_request(self, *args: Any) -> None:
        return None


@dataclass(frozen=True, eq=False)
class ChatEndpoint:
    """Sends chat requests to ``BASE_URL/chat/completions``; safe to be used by several threads at once.

    Proxies are taken from the environment, as by other programs.

    Attributes:
        base_url: as ``https://host/v1``.
        key: the bearer token; "" sends none. It is never part of a message.
        attempts: how often one request is tried in all.
        backoff_s: the wait after a first failure; doubles with each one, up to `longest_wait_s`. Half of every wait is
            drawn at random, so that many clients do not come back at once.
        longest_wait_s: a server that asks for a longer wait (Retry-After) counts as staying away.
        timeout_s: seconds for one reply to be complete.
        stop: set by another thread to end all waiting.
    """

    base_url: str
    key: str = field(default="", repr=False)
    attempts: int = 6
    backoff_s: float = 1.0
    longest_wait_s: float = 120.0
    timeout_s: float = 180.0
    stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _opener: Any = field(default_factory=lambda: build_opener(_StayHere), init=False, repr=False)
    # Its own: the run's random numbers must not depend on how often a server failed.
    _random: random.Random = field(default_factory=random.Random, init=False, repr=False)

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"{self.base_url.rstrip('/')}/chat/completions"

    def complete(self, body: Mapping[str, Any]) -> Completion:
        """The reply to a chat request.

        Raises:
            StaysAwayError: no attempt brought a reply, or the server asks for a wait that is too long.
            RefusedError: the server refuses the request (key, model, options, size); trying again is pointless.
            ValueError: the request cannot be sent.
        """
        data = json.dumps(body).encode()
        for attempt in range(self.attempts):
            try:
                return self._once(data)
            except _PassingError as error:
                why = self._hidden(str(error))
                last = attempt + 1 == self.attempts
                if error.wait_s > self.longest_wait_s:
                    told = f"{self.url} asks to wait {error.wait_s:.0f} s: {why}"
                    raise StaysAwayError(told, error.status) from error
                backoff = min(self.backoff_s * 2**attempt, self.longest_wait_s)
                if last or self.stop.wait(error.wait_s + backoff * self._random.uniform(0.5, 1.0)):
                    tried = f"{attempt + 1} attempts" if attempt else "1 attempt"
                    told = f"{self.url} stays away after {tried}, the last one: {why}"
                    raise StaysAwayError(told, error.status) from error
        raise AssertionError("the last attempt returns or raises")

    def _once(self, data: bytes) -> Completion:
        headers = {"Content-Type": "application/json", "User-Agent": "vidpref"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = Request(self.url, data, headers)  # noqa: S310 EndpointJudge takes http and https alone
        try:
            with self._opener.open(request, timeout=self.timeout_s) as response:
                content = self._read(response)
        except HTTPError as error:
            return self._refused(error)
        except (URLError, HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise _PassingError(f"{type(reason).__name__}: {reason}".rstrip(": ")) from error
        except ValueError:  # its text may quote the key in another spelling, so it is not shown
            raise ValueError(f"{self.url} cannot be asked: HTTP allows no such characters in key or address") from None
        return _completion(content)

    def _read(self, response: Any) -> bytes:
        """The whole body; a server that drips must be done in time, too."""
        deadline, parts, size = time.monotonic() + self.timeout_s, [], 0
        while part := response.read1(65536):
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline or size > _LONGEST_REPLY:
                raise TimeoutError(f"the reply was not complete after {self.timeout_s:g} s")
        if response.length:  # fewer bytes than the header promised, which read1 does not complain of
            raise ConnectionError("the connection was closed within the reply")
        return b"".join(parts)

    def _refused(self, error: HTTPError) -> Completion:
        """What becomes of an error status: a `_PassingError`, a reply (this one question was refused), or a stop."""
        try:
            content = error.read(65536).decode(errors="replace")
        except (HTTPException, OSError):
            content = ""
        told = _error_of(content)
        message = self._hidden(str(told.get("message") or content[:300] or error.reason).strip())
        if error.code >= 500 or error.code in _PASSING:
            wait_s = _wait_of(error.headers.get("Retry-After"))
            raise _PassingError(f"status {error.code}: {message}", wait_s, error.code)
        if told.get("code") in _FILTERED:
            return Completion(f"[refused: {message}]")
        hint = {
            401: "; check the key in the environment",
            403: "; check the key in the environment",
            404: "; check base URL and model",
        }.get(error.code, "; check base URL, model and options" if error.code >= 400 else "; give the final address")
        raise RefusedError(f"{self.url} refuses the request with status {error.code}: {message}{hint}", error.code)

    def _hidden(self, text: str) -> str:
        """The text without the key, which some servers repeat."""
        return text.replace(self.key, "***") if self.key else text


def _completion(content: bytes) -> Completion:
    """The first choice's text, "" where it has none; an answer of another form may be a proxy's page, and pass."""
    try:
        data = json.loads(content)
    except ValueError:
        data = None
    if _field(data, "error") or not isinstance(data, Mapping) or "choices" not in data:
        raise _PassingError(f"the answer is no chat completion: {content[:200].decode(errors='replace')!r}")
    usage = data.get("usage")
    tokens = [_field(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    return Completion(_said(data["choices"]), *(count if isinstance(count, int) else 0 for count in tokens))


def _said(choices: Any) -> str:
    message = _field(choices[0] if isinstance(choices, list) and choices else None, "message")
    content = _field(message, "content")
    parts = [_field(part, "text") for part in content] if isinstance(content, list) else [content]
    said = "".join(part for part in parts if isinstance(part, str))
    return said or str(_field(message, "refusal") or "")


def _field(value: Any, name: str) -> Any:
    """A field of what should be an object; None where it is none."""
    return value.get(name) if isinstance(value, Mapping) else None


def _error_of(content: str) -> dict[str, Any]:
    """The "error" object of an error answer, {} where it has none."""
    try:
        found = json.loads(content)["error"]
    except (ValueError, LookupError, TypeError):
        return {}
    return found if isinstance(found, dict) else {"message": str(found)}


def _wait_of(header: str | None) -> float:
    """Seconds to wait by a Retry-After header: a number of seconds or a date; 0 where there is none."""
    if not header:
        return 0.0
    try:
        return max(float(header), 0.0)
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return max((at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
