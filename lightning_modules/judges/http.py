"""Requests to an OpenAI-compatible chat endpoint: the `openai` client, with retries that another thread can end."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from lightning_modules.judges.base import JudgeStoppedError

if TYPE_CHECKING:  # imported at the first request: no `--help` should wait for it
    from openai import APIStatusError, OpenAI

#: Statuses besides 5xx after which trying again may help: timeout, conflict, too early, too many requests.
_PASSING = (408, 409, 425, 429)
#: Error codes of an endpoint that will not look at one question's content; the next question may pass.
_FILTERED = ("content_filter", "content_policy_violation")
#: Statuses that may be due to one question: its form, its size, or a server that breaks on it. The others are not.
OF_ONE_QUESTION = (400, 413, 422, 500)
#: What a person can do about a status.
_HINTS = {
    401: "check the key in the environment",
    403: "check the key in the environment",
    404: "check base URL and model",
}


class Completion(NamedTuple):
    """A reply and what it took, in tokens as the endpoint counts them (0 where it does not say)."""

    reply: str
    prompt_tokens: int = 0
    reply_tokens: int = 0


class NoReplyError(JudgeStoppedError):
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


@dataclass(eq=False)
class ChatEndpoint:
    """Context manager that sends chat requests to ``BASE_URL/chat/completions``; for several threads at once.

    The `openai` client is made at the first request and closed at the end. It makes one attempt a call: its own waits
    between attempts are at most 8 s, too short for a server that is started again, and go on when another request has
    already failed for good. Proxies are taken from the environment, as by other programs.

    Attributes:
        base_url: as ``https://host/v1``.
        key: the bearer token; "" sends none. It is never part of a message.
        attempts: how often one request is tried in all.
        backoff_s: the wait after a first failure; doubles with each one, up to `longest_wait_s`. Half of every wait is
            drawn at random, so that many clients do not come back at once.
        longest_wait_s: a server that asks for a longer wait (Retry-After) counts as one that does not reply.
        timeout_s: seconds for one reply to be complete.
        concurrency: connections at once.
        stop: set by another thread to end all waiting.
    """

    base_url: str
    key: str = field(default="", repr=False)
    attempts: int = 6
    backoff_s: float = 1.0
    longest_wait_s: float = 120.0
    timeout_s: float = 180.0
    concurrency: int = 8
    stop: threading.Event = field(default_factory=threading.Event, repr=False)
    # Its own: the run's random numbers must not depend on how often a server failed.
    _random: random.Random = field(default_factory=random.Random, init=False, repr=False)
    _making: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _client: OpenAI | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"{self.base_url.rstrip('/')}/chat/completions"

    def complete(self, body: Mapping[str, Any]) -> Completion:
        """The reply to a chat request.

        Args:
            body: the request's fields, "model" and "messages" among them.

        Raises:
            NoReplyError: no attempt brought a reply, or the server asks for a wait that is too long.
            RefusedError: the server refuses the request (key, model, options, size); trying again is pointless.
            ValueError: the request cannot be sent.
        """
        for attempt in range(self.attempts):
            answer = self._attempt(body)
            if isinstance(answer, Completion):
                return answer
            if not isinstance(answer, _PassingError):
                raise answer
            if answer.wait_s > self.longest_wait_s:
                raise NoReplyError(f"{self.url} asks to wait {answer.wait_s:.0f} s: {answer}", answer.status)
            backoff = min(self.backoff_s * 2**attempt, self.longest_wait_s) * self._random.uniform(0.5, 1.0)
            if attempt + 1 == self.attempts or self.stop.wait(answer.wait_s + backoff):
                tried = f"{attempt + 1} attempts" if attempt else "1 attempt"
                raise NoReplyError(f"{self.url} gave no reply in {tried}, the last one: {answer}", answer.status)
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, body: Mapping[str, Any]) -> Completion | Exception:
        """One request: its reply, or an error.

        Errors are returned, not raised from the client's own: those quote what the server says, which may be the key.
        """
        import httpx2
        import openai

        fields = dict(body)
        # A server of one's own may need no key, and then sees no such header.
        headers = None if self.key else {"Authorization": openai.omit}
        try:
            raw = self._connected().chat.completions.with_raw_response.create(
                model=fields.pop("model"),
                messages=fields.pop("messages"),
                extra_body=fields,
                extra_headers=headers,
            )
            return _completion(raw.content)
        except _PassingError as error:
            return _PassingError(self._hidden(str(error)))
        except openai.APIStatusError as error:
            return self._refused(error)
        except openai.APITimeoutError:
            return _PassingError(f"TimeoutError: the reply was not complete after {self.timeout_s:g} s")
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            if isinstance(cause, httpx2.LocalProtocolError):
                return self._unsendable()
            return _PassingError(self._hidden(f"{type(cause).__name__}: {cause}".rstrip(": .")))
        except (httpx2.InvalidURL, ValueError):
            return self._unsendable()

    def _unsendable(self) -> ValueError:
        # The client's words are left out: they may quote the key in another spelling.
        return ValueError(f"{self.url} cannot be asked: HTTP allows no such characters in key or address")

    def _connected(self) -> OpenAI:
        with self._making:
            # Within the lock: several threads come here with the first requests.
            if self._client is None:
                import openai

                from lightning_modules.judges._bounded_client import BoundedClient

                self._client = openai.OpenAI(
                    api_key=self.key or "none",  # the client demands one
                    base_url=self.base_url,
                    timeout=self.timeout_s,
                    max_retries=0,
                    default_headers={"User-Agent": "vidpref"},
                    http_client=BoundedClient(self.timeout_s, self.concurrency),
                )
            return self._client

    def _refused(self, error: APIStatusError) -> Completion | Exception:
        """What becomes of an error status: an error that may pass, a reply (this question is refused), or a refusal."""
        status, body = error.status_code, error.body
        # OpenAI's form of an error, a plain text, or whatever a proxy on the way says.
        message = _field(body, "message") or (body if isinstance(body, str) else None) or error.response.text
        message = self._hidden(str(message)).strip()[:1000] or error.response.reason_phrase
        if status >= 500 or status in _PASSING:
            wait_s = _wait_of(error.response.headers.get("Retry-After"))
            return _PassingError(f"status {status}: {message}", wait_s, status)
        if error.code in _FILTERED:
            return Completion(f"[refused: {message}]")
        hint = _HINTS.get(status, "check base URL, model and options" if status >= 400 else "give the final address")
        return RefusedError(f"{self.url} refuses the request with status {status}: {message}; {hint}", status)

    def _hidden(self, text: str) -> str:
        """The text without the key, which some servers repeat."""
        return text.replace(self.key, "***") if self.key else text


def _completion(answer: bytes) -> Completion:
    """The first choice's text, "" where it has none; an answer of another form may be a proxy's page, and pass."""
    try:
        data = json.loads(answer)
    except ValueError:
        data = None
    if _field(data, "error") or not isinstance(data, Mapping) or "choices" not in data:
        raise _PassingError(f"the answer is no chat completion: {answer[:200].decode(errors='replace')!r}")
    choices = data["choices"]
    message = _field(choices[0] if isinstance(choices, list) and choices else None, "message")
    content = _field(message, "content")
    # Some servers send the text in parts, and a refusal in a field of its own.
    parts = [_field(part, "text") for part in content] if isinstance(content, list) else [content]
    text = "".join(part for part in parts if isinstance(part, str)) or str(_field(message, "refusal") or "")
    usage = data.get("usage")
    tokens = [_field(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    return Completion(text, *(count if isinstance(count, int) else 0 for count in tokens))


def _field(value: Any, name: str) -> Any:
    """A field of what should be an object; None where it is none."""
    return value.get(name) if isinstance(value, Mapping) else None


def _wait_of(header: str | None) -> float:
    """Seconds to wait by a Retry-After header: a number of seconds or a date; 0 where there is none."""
    if not header:
        return 0.0
    try:
        return max(float(header), 0.0)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return 0.0
    # A date without a zone is in UTC, as HTTP has it.
    return max((date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
