"""Any OpenAI-compatible chat endpoint as a judge: OpenAI itself, vLLM, SGLang, llama.cpp, a gateway."""

from __future__ import annotations

import base64
import math
import os
import re
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lightning_modules.judges.base import Judge, JudgeQuestion, JudgeStoppedError, Picture, Workload
from lightning_modules.judges.cache import ReplyCache, request_key
from lightning_modules.judges.http import OF_ONE_QUESTION, ChatEndpoint, NoReplyError, RefusedError

URL_VARIABLE, MODEL_VARIABLE, KEY_VARIABLE = "OPENAI_BASE_URL", "OPENAI_MODEL", "OPENAI_API_KEY"
#: Assumed where `options` do not bound a reply: a reason and a verdict.
_REPLY_TOKENS = 200
#: Of English text.
_CHARACTERS_PER_TOKEN = 4
_JPEG_QUALITY = 92
#: The first bytes of a picture's file -> its media type.
_BEGINNINGS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """What a million tokens cost, in any currency.

    Attributes:
        prompt: a million tokens of questions.
        reply: a million tokens of replies.
    """

    prompt: float
    reply: float


class EndpointJudge(Judge):
    """Judge behind a chat endpoint; asks several questions at a time, and no question twice.

    Address, model and key come from the environment: OPENAI_BASE_URL (as ``http://localhost:8000/v1``), OPENAI_MODEL
    and OPENAI_API_KEY, which a server of one's own may not need. The key is nowhere else: not in the configuration, the
    cache or a message. Every reply is in the cache at once, so whatever ends a run, the next one goes on from there.

    Args:
        model: the model's name; None = from the environment.
        base_url: the address up to ``/v1``; None = from the environment.
        key_variable: the environment variable that holds the key.
        cache: the folder of replies, shared by all runs and processes. They are known by model and options, wherever
            the server is; for another model under the same name, take another folder.
        concurrency: requests under way at once, in each process.
        attempts: how often one request is tried before the judge counts as one that does not reply.
        backoff_s: seconds to wait after a first failure; doubles with each one. Retry-After is honoured.
        longest_wait_s: no wait is longer; a server that asks for more counts as one that does not reply.
        timeout_s: seconds for one reply.
        options: fields added to every request, as {temperature: 0, max_completion_tokens: 300}.
        image_format: how pictures are sent; png is exact, jpeg a tenth of the size.
        on_failed_question: what becomes of a question that the endpoint refuses (status 400, 413, 422) or breaks on
            (500 in every attempt), as one with too many pictures: raise = the run stops and names it; skip = the reply
            is "[failed: why]", which counts as one that cannot be read, and is not kept.
        limit: new requests in this process, after which the run stops and says how to continue; retries of one request
            and replies from the cache do not count. None = no limit.
        tokens_per_image: for the estimate; None = one token for each 28 x 28 pixels, as Qwen's models count.
        prices: for the estimate and the summary; None = tokens only.

    Raises:
        ValueError: no address or model is known, or a number is out of range.
    """

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        key_variable: str = KEY_VARIABLE,
        cache: str = "runs/judge_cache",
        concurrency: int = 8,
        attempts: int = 6,
        backoff_s: float = 1.0,
        longest_wait_s: float = 120.0,
        timeout_s: float = 180.0,
        options: dict[str, Any] | None = None,
        image_format: Literal["png", "jpeg"] = "png",
        on_failed_question: Literal["raise", "skip"] = "raise",
        limit: int | None = None,
        tokens_per_image: int | None = None,
        prices: TokenPrices | None = None,
    ) -> None:
        for what, value, least in (("concurrency", concurrency, 1), ("attempts", attempts, 1), ("limit", limit, 0)):
            if value is not None and value < least:
                raise ValueError(f"judge.{what} is {value}; give {least} or more")
        for what, seconds in (("backoff_s", backoff_s), ("longest_wait_s", longest_wait_s), ("timeout_s", timeout_s)):
            if not 0 < seconds < math.inf:
                raise ValueError(f"judge.{what} is {seconds}; give a number of seconds above 0")
        self.model = _setting(model, MODEL_VARIABLE, "the judge's model")
        self.base_url = _checked_url(
            _setting(base_url, URL_VARIABLE, "the judge's address, as http://localhost:8000/v1")
        )
        self.cache = ReplyCache(cache)
        self.concurrency = concurrency
        self.options = dict(options or {})
        self.image_format = image_format
        self.on_failed_question = on_failed_question
        self.limit = limit
        self.tokens_per_image = tokens_per_image
        self.prices = prices
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._endpoint = ChatEndpoint(
            self.base_url,
            _key(key_variable),
            attempts,
            backoff_s,
            longest_wait_s,
            timeout_s,
            concurrency,
            self._stop,
        )
        self._counting = threading.Lock()
        self._spent = dict.fromkeys(("new", "known", "prompt", "reply"), 0)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    def settings(self) -> dict[str, Any]:
        """How it is asked; the address is left out, a server may move."""
        return {"options": self.options, "image_format": self.image_format}

    def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        """The replies, in order.

        Raises:
            JudgeStoppedError: the endpoint gives no reply, or the limit is reached; says how to continue.
            ValueError: the endpoint refuses a question; names it.
        """
        self._stop.clear()
        self._ended.clear()
        # In this order: connections are closed when the last thread is through, whatever ended the others.
        with self._endpoint, ThreadPoolExecutor(self.concurrency) as threads:
            futures = [threads.submit(self._reply_or_end, question) for question in questions]
            try:
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:  # in their order: of several failures the first question's is raised
                    if future in finished:
                        future.result()  # before the others have waited for theirs
                return [future.result() for future in futures]
            except BaseException:
                # What is under way ends its request, and its reply is kept: it was paid for.
                threads.shutdown(wait=False, cancel_futures=True)
                self._stop.set()
                raise

    def estimate(self, work: Workload) -> str:
        """Requests, pictures, tokens and, with prices, the cost, if nothing is cached and every reply can be read."""
        width, height = work.image_size or (0, 0)
        tokens = -(-width // 28) * -(-height // 28) if self.tokens_per_image is None else self.tokens_per_image
        prompt = work.characters // _CHARACTERS_PER_TOKEN + work.images * tokens
        bound = self.options.get("max_completion_tokens") or self.options.get("max_tokens") or _REPLY_TOKENS
        reply = work.questions * int(bound)
        line = (
            f"{self.model} at {self.base_url}: {work.questions:,} requests with {work.images:,} pictures, "
            f"about {prompt:,} tokens of questions and {reply:,} of replies{self._cost(prompt, reply)}"
        )
        if work.attempts > 1:
            most = f"{work.questions * work.attempts:,} requests, {work.attempts} times the tokens"
            line += f"; up to {most}, where replies cannot be read"
        cache_note = f"what is in {self.cache.folder} is not asked again"
        return f"{line}; {cache_note}" + ("" if self.limit is None else f"; stops after {self.limit:,} new requests")

    def summary(self) -> str:
        """What was asked and what it took, as far as the endpoint says."""
        new, known, prompt, reply = self._spent.values()
        return (
            f"{self.model}, in this process: {new:,} new requests, {known:,} replies from {self.cache.folder}; "
            f"{prompt:,} tokens of questions and {reply:,} of replies{self._cost(prompt, reply)}"
        )

    def _cost(self, prompt: int, reply: int) -> str:
        if self.prices is None:
            return ""
        return f", cost about {(prompt * self.prices.prompt + reply * self.prices.reply) / 1e6:,.2f}"

    def _reply_or_end(self, question: JudgeQuestion) -> str:
        """Its reply. After an error no other question is begun, even before the thread that waits has noticed."""
        if self._ended.is_set():
            # Never shown: the error that ended it is an earlier question's.
            raise JudgeStoppedError(f"{question.place} is not asked: an earlier question ended the run")
        try:
            return self._reply(question)
        except BaseException:
            self._ended.set()
            raise

    def _reply(self, question: JudgeQuestion) -> str:
        settings = {"model": self.model, **self.settings()}
        try:
            reply, new = self.cache.reply(request_key(settings, question), lambda: self._new_reply(question))
        except (NoReplyError, ValueError) as error:
            its_own = isinstance(error, NoReplyError | RefusedError) and error.status in OF_ONE_QUESTION
            if its_own and self.on_failed_question == "skip":
                return f"[failed: {error}]"
            remedy = "; where it is this question alone, set judge.on_failed_question to skip" if its_own else ""
            message = f"question {question.place}: {error}{remedy}"
            if isinstance(error, NoReplyError):
                raise JudgeStoppedError(f"{message}. {self._continuation()}") from error
            raise ValueError(message) from error
        if not new:
            self._count(known=1)
        return reply

    def _new_reply(self, question: JudgeQuestion) -> str:
        with self._counting:
            if self.limit is not None and self._spent["new"] >= self.limit:
                raise JudgeStoppedError(f"the limit of {self.limit} new requests is reached. {self._continuation()}")
            # Before the request, so that several threads do not pass the limit together.
            self._spent["new"] += 1
        body = {"model": self.model, "messages": self._messages(question), **self.options}
        completion = self._endpoint.complete(body)
        self._count(prompt=completion.prompt_tokens, reply=completion.reply_tokens)
        return completion.reply

    def _messages(self, question: JudgeQuestion) -> list[dict[str, Any]]:
        parts = [self._part(part) for part in question.content()]
        # Servers of text models take plain text only.
        message = {"role": "user", "content": parts if question.images else question.text}
        return ([{"role": "system", "content": question.system}] if question.system else []) + [message]

    def _part(self, part: str | Picture) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        data = part if isinstance(part, bytes) else _encoded(part.cpu().numpy(), self.image_format)
        if data[4:8] == b"ftyp":  # an mp4, which vLLM and SGLang take so
            url = f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
            return {"type": "video_url", "video_url": {"url": url}}
        kind = next((kind for start, kind in _BEGINNINGS.items() if data.startswith(start)), None)
        if kind is None:
            raise ValueError("a picture is neither PNG nor JPEG; give one of these, or a (3, H, W) uint8 tensor")
        return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{base64.b64encode(data).decode()}"}}

    def _count(self, **more: int) -> None:
        with self._counting:
            for name, value in more.items():
                self._spent[name] += value

    def _continuation(self) -> str:
        return (
            f"{self._spent['new']} new requests were made, all replies are in {self.cache.folder}; "
            "run the same command again to continue, nothing is asked twice"
        )


def _setting(value: str | None, variable: str, what: str) -> str:
    """A setting from the configuration, else from the environment."""
    # A line of an environment file may end in a carriage return.
    setting = value or os.environ.get(variable, "").strip()
    if not setting:
        raise ValueError(f"{what} is not known; set {variable} in the environment, or give it in the configuration")
    return setting


def _key(variable: str) -> str:
    """The key in an environment variable; "" where there is none."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        # The key itself is in no message.
        raise ValueError(f"{variable} is no key: there is a blank, a line break or a character outside ASCII in it")
    return key


def _checked_url(url: str) -> str:
    if set("@?#") & set(url) or not re.match(r"https?://[^/]", url):
        shown = re.sub(r".*@|[?#].*", "***", url)  # a user, a password and a query may be secret
        raise ValueError(f"the judge's address {shown!r} is not of the form https://host/v1, with nothing else in it")
    return url


def _encoded(pixels: np.ndarray, image_format: str) -> bytes:
    """PNG or JPEG bytes of (3, H, W) uint8."""
    import cv2

    image = cv2.cvtColor(np.ascontiguousarray(pixels.transpose(1, 2, 0)), cv2.COLOR_RGB2BGR)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if image_format == "jpeg" else []
    succeeded, data = cv2.imencode(".jpg" if image_format == "jpeg" else ".png", image, quality)
    assert succeeded, "uint8 pictures can be encoded"
    return data.tobytes()
