"""Conversations and texts as other suites write them: messages with roles, contents in parts, a token for the video."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, NamedTuple

from datamodules.vista.samples import VIDEO_TOKEN

_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "model": "assistant"}
_PICTURES = ("image", "image_url", "audio", "audio_url", "input_audio")


class UnreadableRowError(ValueError):
    """A row that cannot be read as its format.

    Args:
        field: what of the row is wrong.
        why: in which way.
    """

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class Turn(NamedTuple):
    """A question that was asked before, and the answer that it got."""

    question: str
    answer: str


@dataclass(slots=True)
class Conversation:
    """Messages in order.

    Attributes:
        turns: those before the last question.
        question: the last one.
        answer: what follows it; None where the conversation ends with the question.
        videos: those that parts of the contents name.
        system: whether there is a system message.
        extras: names of what messages hold besides role and content.
        late_token: whether the video's token is in another than the first question.
    """

    turns: tuple[Turn, ...] = ()
    question: str = ""
    answer: str | None = None
    videos: list[Any] = dataclass_field(default_factory=list)
    system: bool = False
    extras: set[str] = dataclass_field(default_factory=set)
    late_token: bool = False


def shown(value: Any) -> str:
    """A value of any type in a few characters, for messages."""
    return json.dumps(value, default=str)[:60]


def without_token(text: str) -> str:
    """The text without the video's token and the line break beside it."""
    before, *parts = text.split(VIDEO_TOKEN)
    for part in parts:
        left, right = before.rstrip(" \t"), part.lstrip(" \t")
        # A token on a line of its own leaves one line break, one within a line a space, one at an end nothing.
        joint = "\n" if left.endswith("\n") or right.startswith("\n") else " "
        left, right = left.removesuffix("\n"), right.removeprefix("\n")
        before = f"{left}{joint}{right}" if left and right else left or right
    return before.strip() if parts else text.strip()


def content_text(field: str, content: Any, videos: list[Any]) -> str:
    """The text of a message's content, its token still in it; the videos that parts name are added to `videos`.

    Raises:
        UnreadableRowError: it is neither text nor a list of parts, or has a picture or sound.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UnreadableRowError(field, f"is neither text nor a list of parts but {shown(content)}")
    texts = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if kind == "text":
            text = part.get("text", part.get("value"))
            if not isinstance(text, str):
                raise UnreadableRowError(field, f"has a part without text: {shown(part)}")
            texts.append(text)
        elif kind in ("video", "video_url"):
            value = part.get(kind, part.get("value", part.get("url")))
            if isinstance(value, dict):
                value = value.get("url")
            if value is not None:  # without an address it marks the place, and a column has the video
                videos.append(value)
            texts.append(VIDEO_TOKEN)
        elif kind in _PICTURES:
            raise UnreadableRowError(field, f"has a part of type {kind}; only text and one video are read")
        else:
            raise UnreadableRowError(field, f"has a part of unknown type: {shown(part)}")
    return "".join(texts)


def conversation(field: str, messages: Any, role: str = "role", content: str = "content") -> Conversation:
    """A list of messages that alternate between user and assistant, maybe after a system message.

    Args:
        field: the row's field, for messages.
        messages: objects with a role and a content.
        role: the name of the role in them.
        content: the name of the content.

    Raises:
        UnreadableRowError: another structure, other roles, or more than one video token.
    """
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise UnreadableRowError(field, f"is not a list of messages but {shown(messages)}")
    read = Conversation()
    if messages[0].get(role) == "system":
        read.system, messages = True, messages[1:]
    texts: list[str] = []
    tokens = []
    for number, message in enumerate(messages):
        expected = ("user", "assistant")[number % 2]
        if (given := _ROLES.get(str(message.get(role)))) != expected:
            raise UnreadableRowError(
                field, f"message {number + 1} is of {given or message.get(role)!r}, where one of {expected!r} is read"
            )
        read.extras |= {name for name, value in message.items() if name not in (role, content) and value is not None}
        text = content_text(field, message.get(content), read.videos)
        # In an answer the token is text like any other; the check of the finished row refuses it there.
        tokens.append(text.count(VIDEO_TOKEN) if expected == "user" else 0)
        texts.append(without_token(text) if expected == "user" else text.strip())
    if not texts:
        raise UnreadableRowError(field, "has no question")
    if sum(tokens) > 1:
        raise UnreadableRowError(field, f"has {sum(tokens)} {VIDEO_TOKEN} tokens; a row has one video")
    read.late_token = sum(tokens[1:]) > 0
    # Users and assistants alternate, so an even number of messages ends with an answer.
    if len(texts) % 2 == 0:
        read.answer = texts.pop()
    read.question = texts.pop()
    read.turns = tuple(Turn(*texts[start : start + 2]) for start in range(0, len(texts), 2))
    return read


def answer_text(field: str, answer: Any) -> str:
    """The text of an answer: a string, a message by either spelling, or a list with one message of the assistant.

    Raises:
        UnreadableRowError: it is none of these.
    """
    if isinstance(answer, list):
        if len(answer) != 1 or not isinstance(answer[0], dict):
            raise UnreadableRowError(field, f"is not one message of the assistant but {shown(answer)}")
        answer = answer[0]
    if isinstance(answer, Mapping):
        role, content = answer.get("role", answer.get("from")), answer.get("content", answer.get("value"))
        if _ROLES.get(str(role)) != "assistant":
            raise UnreadableRowError(field, f"is a message of {role!r}, not of the assistant")
        answer = content_text(field, content, [])
    if not isinstance(answer, str):
        raise UnreadableRowError(field, f"is neither text nor a message but {shown(answer)}")
    return answer.strip()


def one_video(field: str, value: Any) -> Any:
    """The one video of a field that holds it alone, as a list of one, or as a list of its frames within one.

    Raises:
        UnreadableRowError: there is none, or more than one.
    """
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    if isinstance(value, list):
        raise UnreadableRowError(field, f"has {len(value)} videos; a row has one" if value else "is empty")
    if value in (None, ""):
        raise UnreadableRowError(field, "is missing")
    return value


def same_conversation(field: str, first: Sequence[Turn | str], second: Sequence[Turn | str]) -> None:
    """Refuse a pair whose answers follow different questions.

    Raises:
        UnreadableRowError: they differ.
    """
    if list(first) != list(second):
        raise UnreadableRowError(field, "asks something else than the chosen side; a pair has one question")
