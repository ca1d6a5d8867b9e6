"""What the configuration parser says of a fault, in a form that a person can use."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable

#: Lines of the parser's report that say which types were tried, not what is wrong.
NOISE = (
    "Does not validate against any of the Union subtypes",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Subclass types expect one of:",
    "a class path (str)",
    "a dict with",
    "a dict without",
)
#: Findings of a union's other branches, worth a line only where there is no better one.
WEAK = ("Expected a <class 'NoneType'>", "Not a valid subclass of")

KEY = re.compile(r'Parser key "(?P<key>[^"]+)":\s*(?P<rest>.*)')
CLASS = re.compile(r"Problem with given class_path '(?P<path>[^']+)':\s*(?P<rest>.*)")
UNKNOWN = re.compile(r"(?:Subcommand '\w+'|Group '[^']*'|Option) (?:does not accept option )?'(?P<key>[^']+)'.*")
REQUIRED = re.compile(r"the following arguments are required: (?P<keys>.+)")
NO_CLASS = re.compile(r"Expected a dot import path string: (?P<name>.+)")


def readable(message: str, known_keys: Iterable[str] = ()) -> str:
    """The parser's message with the faults named by their full key, one a line.

    Args:
        message: what the parser reports: a tree, indented by keys, classes and the branches of unions.
        known_keys: keys that exist at the top, from which a near miss is suggested.
    """
    stack: list[tuple[int, str, str]] = []  # (indent, key, class path)
    strong: list[str] = []
    weak: list[str] = []
    for line in message.splitlines():
        text = line.strip().removeprefix("- ").strip()
        indent = len(line) - len(line.lstrip())
        while stack and stack[-1][0] >= indent and indent > 0:
            stack.pop()
        while (found := KEY.fullmatch(text) or CLASS.fullmatch(text)) is not None:
            named = found.groupdict()
            stack.append((indent, named.get("key", ""), named.get("path", "")))
            text = found["rest"].strip()
        if text and not text.startswith(NOISE):
            where = ".".join(key for _, key, _ in stack if key)
            classes = [path for _, _, path in stack if path]
            target = weak if text.startswith(WEAK) else strong
            target.append(_fault(text, where, classes[-1] if classes else "", known_keys))
    return "\n".join(dict.fromkeys(strong or weak)) or message


def _fault(text: str, where: str, owner: str, known_keys: Iterable[str]) -> str:
    """One finding of the parser in our words, or in its own where we have none."""
    if (found := UNKNOWN.fullmatch(text)) and "accept" in text:
        names = _parameters(owner) if owner else known_keys
        full = ".".join(part for part in (where, found["key"]) if part)
        whose = f" ({owner} has no such parameter)" if owner else ""
        return f"unknown key '{full}'{whose}{_suggestion(found['key'], names)}"
    if found := REQUIRED.fullmatch(text):
        keys = ", ".join(
            f"'{'.'.join(part for part in (where, key.strip()) if part)}'" for key in found["keys"].split(",")
        )
        return f"missing {keys}: give a value in a --config file or as a flag"
    if found := NO_CLASS.fullmatch(text):
        return f"'{where}': there is no class '{found['name']}' here; give its full path, as package.module.Class"
    return f"'{where}': {text}" if where else text


def _parameters(class_path: str) -> list[str]:
    """The names that a class accepts, its bases' included; none when it cannot be imported."""
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
        return [one for base in found.__mro__ for one in inspect.signature(base.__init__).parameters]
    except (ImportError, AttributeError, TypeError, ValueError):
        return []


def _suggestion(key: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(names), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
