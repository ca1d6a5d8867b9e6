"""LLaMA-Factory's ``dataset_info.json``: how the columns of a file beside it are called."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

NAME = "dataset_info.json"
#: LLaMA-Factory's word for a column -> the column's usual name, which is also the default.
_USUAL = {
    "prompt": "instruction",
    "query": "input",
    "messages": "conversations",
    "history": "history",
    "system": "system",
    "chosen": "chosen",
    "rejected": "rejected",
    "videos": "videos",
    "images": "images",
    "audios": "audios",
}
_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "system_tag": "system",
}

Rename = Callable[[Mapping[str, Any]], dict[str, Any]]


def renamed_columns(path: Path) -> Rename | None:
    """A function that gives a row of a file its usual names; None = no ``dataset_info.json`` beside it names the file.

    Raises:
        ValueError: the file is a ``dataset_info.json`` itself, or the one beside it cannot be read.
    """
    registry = path.with_name(NAME)
    if not registry.is_file():
        return None
    try:
        entries = json.loads(registry.read_text(encoding="utf-8"))
        named = [entry for entry in entries.values() if isinstance(entry, dict) and "file_name" in entry]
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{registry}: is no object of data sets ({error})") from error
    # A dataset_info.json is a file beside itself: without this its data sets would be read as rows.
    if path.name == NAME:
        files = ", ".join(str(entry["file_name"]) for entry in named)
        raise ValueError(f"{path}: describes data sets; give the file of one of them: {files}")
    entry = next((entry for entry in named if Path(str(entry["file_name"])).name == path.name), None)
    if entry is None:
        return None
    columns, tags = entry.get("columns") or {}, {**_TAGS, **(entry.get("tags") or {})}
    names = {columns[word]: usual for word, usual in _USUAL.items() if columns.get(word)}
    roles = {tags["user_tag"]: "human", tags["assistant_tag"]: "gpt", tags["system_tag"]: "system"}

    def message(value: Any) -> Any:
        if not isinstance(value, dict) or tags["role_tag"] not in value:
            return value
        role = value[tags["role_tag"]]
        return {"from": roles.get(role, role), "value": value.get(tags["content_tag"])}

    def rename(row: Mapping[str, Any]) -> dict[str, Any]:
        usual = {names.get(name, name): value for name, value in row.items()}
        if isinstance(usual.get("conversations"), list):
            usual["conversations"] = [message(value) for value in usual["conversations"]]
        # Answers may be messages, too, under the file's own tags.
        return usual | {name: message(usual[name]) for name in ("chosen", "rejected") if name in usual}

    return rename
