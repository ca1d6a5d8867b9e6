"""What a row of each format of preference data says: a function a format, or one for several that are alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datamodules.prepare.conversations import (
    Conversation,
    Turn,
    UnreadableRowError,
    answer_text,
    conversation,
    one_video,
    same_conversation,
    shown,
    without_token,
)

Row = Mapping[str, Any]

PICTURES_ONLY = "is all that the row shows; rows that only have pictures or sounds are not read"
_MEDIA = ("images", "image", "audios", "audio")


@dataclass(slots=True)
class ReadRow:
    """What a row of any format says.

    Attributes:
        question: without the video's token.
        chosen: the preferred answer.
        rejected: the other one; "" where the pair differs in the video alone.
        video: as the row names it, see `VideoFinder`.
        rejected_video: likewise, a video for which the chosen answer is wrong; None = there is none.
        turns: earlier questions and answers.
        facts: what the format says of the row besides `FACTS`, by name.
        dropped: parts of fields that are read which have no place here, by name.
    """

    question: str
    chosen: str
    rejected: str
    video: Any
    rejected_video: Any = None
    turns: tuple[Turn, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)


def has(row: Row, name: str) -> bool:
    """Whether a row has a field; null and an empty list or object are none."""
    return row.get(name) not in (None, [], {})


def _refuse_pictures(row: Row) -> None:
    """Refuse pictures and sounds: beside a video they are part of what the answers are about."""
    given = [name for name in _MEDIA if has(row, name)]
    if given and not has(row, "videos") and not has(row, "video"):
        raise UnreadableRowError(given[0], PICTURES_ONLY)
    if given:
        raise UnreadableRowError(
            given[0], "comes beside the video; a row has one video and nothing else to see or hear"
        )


def _video(row: Row, parts: list[Any] | None = None, names: tuple[str, ...] = ("videos", "video")) -> Any:
    """The video of a row: of the first column that has one, or of the parts of a message."""
    _refuse_pictures(row)
    name = next((name for name in names if has(row, name)), None)
    if name is not None:
        return one_video(name, row[name])
    if not parts:
        raise UnreadableRowError(names[0], "is missing")
    if len(parts) > 1:
        raise UnreadableRowError(names[0], f"messages have {len(parts)} videos; a row has one")
    return parts[0]


def _lost(*parts: Conversation) -> list[str]:
    """What of a conversation has no place in a row."""
    lost = sorted({f"{name} of messages" for part in parts for name in part.extras})
    lost += ["system message"] if any(part.system for part in parts) else []
    return lost + (["place of <video> in a later turn"] if any(part.late_token for part in parts) else [])


def _question(name: str, row: Row) -> str:
    if not isinstance(row[name], str):
        raise UnreadableRowError(name, f"is not text but {shown(row[name])}")
    if row[name].count("<video>") > 1:
        raise UnreadableRowError(name, "has several <video> tokens; a row has one video")
    return without_token(row[name])


def read_swift(row: Row) -> ReadRow:
    """``messages`` end with the chosen answer; the rejected side names what differs."""
    chosen = conversation("messages", row["messages"])
    if chosen.answer is None:
        raise UnreadableRowError("messages", "end with the question, not with the chosen answer")
    video, rejected_video, rejected = _video(row, chosen.videos), None, ""
    if has(row, "rejected_messages"):
        other = conversation("rejected_messages", row["rejected_messages"])
        same_conversation("rejected_messages", [*chosen.turns, chosen.question], [*other.turns, other.question])
        if other.answer is None:
            raise UnreadableRowError(
                "rejected_messages", "end with the question; the rejected answer is their last one"
            )
        rejected = other.answer
    elif has(row, "rejected_response"):
        rejected = answer_text("rejected_response", row["rejected_response"])
    if has(row, "rejected_videos"):
        rejected_video = one_video("rejected_videos", row["rejected_videos"])
    # Rows may name the video on both sides where only the answers differ.
    if rejected_video == video:
        rejected_video = None
    if rejected == chosen.answer and rejected_video is not None:
        rejected = ""  # it differs in the video alone
    if not rejected and rejected_video is None:
        raise UnreadableRowError("rejected_response", "is missing, and no rejected_videos are other videos")
    lost = _lost(chosen)
    return ReadRow(chosen.question, chosen.answer, rejected, video, rejected_video, chosen.turns, {}, lost)


def read_llamafactory(row: Row) -> ReadRow:
    """Sharegpt: conversations that end with the human. Alpaca: instruction, line break, input."""
    chosen, rejected = (answer_text(name, row[name]) for name in ("chosen", "rejected"))
    video = _video(row)
    if has(row, "conversations"):
        asked = conversation("conversations", row["conversations"], "from", "value")
        if asked.answer is not None:
            raise UnreadableRowError("conversations", "end with an answer; they end with the question")
        return ReadRow(asked.question, chosen, rejected, video, None, asked.turns, {}, _lost(asked))
    instruction, more = row["instruction"], row.get("input") or ""
    text = f"{instruction}\n{more}" if more else instruction
    turns = _history(row.get("history") or [])
    return ReadRow(_question("instruction", {"instruction": text}), chosen, rejected, video, None, turns)


def _history(history: Any) -> tuple[Turn, ...]:
    pairs = history if isinstance(history, list) else [history]
    if not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs
    ):
        raise UnreadableRowError("history", f"is not a list of [question, answer] but {shown(history)}")
    return tuple(Turn(without_token(question), answer.strip()) for question, answer in pairs)


def read_llamafactory_v1(row: Row) -> ReadRow:
    """Two whole conversations, whose videos are parts of their contents."""
    chosen, other = (conversation(name, row[name]) for name in ("chosen_messages", "rejected_messages"))
    same_conversation("rejected_messages", [*chosen.turns, chosen.question], [*other.turns, other.question])
    if chosen.answer is None or other.answer is None:
        raise UnreadableRowError("chosen_messages", "and rejected_messages both end with an answer")
    video, rejected_video = _video(row, chosen.videos), None
    if other.videos and other.videos != chosen.videos:
        rejected_video = one_video("rejected_messages", other.videos)
    same = chosen.answer == other.answer and rejected_video is not None
    rejected = "" if same else other.answer
    return ReadRow(
        chosen.question, chosen.answer, rejected, video, rejected_video, chosen.turns, {}, _lost(chosen, other)
    )


def read_prompted(row: Row) -> ReadRow:
    """TRL and verl-omni: the prompt as messages or text, the answers as messages or texts."""
    _refuse_pictures(row)
    prompt = row["prompt"]
    asked = conversation("prompt", [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)
    if asked.answer is not None:
        raise UnreadableRowError("prompt", "ends with an answer; it ends with the question")
    chosen, rejected = (answer_text(name, row[name]) for name in ("chosen", "rejected"))
    return ReadRow(asked.question, chosen, rejected, _video(row, asked.videos), None, asked.turns, {}, _lost(asked))


def read_plain(question: str, video: str) -> Callable[[Row], ReadRow]:
    """Rows whose texts are fields of their own, by the names of the question and of the video."""

    def read(row: Row) -> ReadRow:
        chosen, rejected = (answer_text(name, row[name]) for name in ("chosen", "rejected"))
        return ReadRow(_question(question, row), chosen, rejected, one_video(video, row[video]))

    return read


def read_qwen_vl(row: Row) -> ReadRow:
    """Prompt and video in fields of their own; rows with an image instead are refused."""
    _refuse_pictures(row)
    return read_plain("prompt", "video")(row)


def read_align_anything(row: Row) -> ReadRow | None:
    """``overall_response`` says which of two responses is better."""
    # 1, "1", or 1.0 where a table with gaps made floats of its numbers.
    side = str(row["overall_response"]).removesuffix(".0")
    if side not in ("1", "2"):
        return None
    answers = [answer_text(name, row[name]) for name in ("response_1", "response_2")]
    chosen, rejected = answers if side == "1" else reversed(answers)
    return ReadRow(_question("prompt", row), chosen, rejected, one_video("video_path", row["video_path"]))


_CANDIDATES = re.compile(
    r"^Question:\s*(?P<question>.*?)\s*^Candidate A:\s*(?P<A>.*?)\s*^Candidate B:\s*(?P<B>.*)\Z",
    re.DOTALL | re.MULTILINE,
)


def read_omni_preference(row: Row) -> ReadRow | None:
    """Question and both answers within one text, the verdict as JSON in a string."""
    text = conversation("messages", row["messages"][:1] if isinstance(row["messages"], list) else None)
    parts = _CANDIDATES.search(text.question)
    if parts is None:
        raise UnreadableRowError("messages", "have no lines 'Question:', 'Candidate A:' and 'Candidate B:'")
    try:
        verdict = json.loads(row["solution"]) if isinstance(row["solution"], str) else row["solution"]
        better = verdict["better"]
    except (ValueError, TypeError, KeyError) as error:
        raise UnreadableRowError("solution", f"is no JSON with 'better' but {shown(row['solution'])}") from error
    # A tie is no fault of the row: it prefers neither answer, and is counted as left out.
    if better not in ("A", "B"):
        if better in ("equal", "tie", "same"):
            return None
        raise UnreadableRowError("solution", f"better is {shown(better)}, none of A, B and equal")
    worse = "B" if better == "A" else "A"
    scores = {
        name: verdict[f"score_{side}"]
        for name, side in (("chosen_score", better), ("rejected_score", worse))
        if f"score_{side}" in verdict
    }
    return ReadRow(parts["question"], parts[better], parts[worse], _video(row), facts=scores)
