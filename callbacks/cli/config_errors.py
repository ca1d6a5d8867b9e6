"""What the configuration parser says of a fault, in a form that a person can use."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Iterable

from callbacks.cli.former_names import current_class, current_key

#: Lines of the parser's report that say which types were tried, not what is wrong.
NOISE = (
    "Does not validate against any of the Union subtypes",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Subclass types expect one of:",
    "a class path (str)",
    "a dict with",
)
#: Findings of a union's other branches, worth a line only where there is no better one.
WEAK = ("Expected a <class 'NoneType'>", "Expected a path", "Not a valid subclass of")

#: Packages whose classes a mistyped class name is compared with.
NAMED_PACKAGES = (
    "lightning_modules.",
    "datamodules.",
    "callbacks.",
    "benchmarks.",
    "lightning.pytorch.",
    "torch.optim.",
)

KEY = re.compile(r'Parser key "(?P<key>[^"]+)":\s*(?P<rest>.*)')
CLASS = re.compile(r"Problem with given class_path '(?P<path>[^']+)':\s*(?P<rest>.*)")
CALLABLE = re.compile(r"Type .* expects a function or a callable class: (?P<rest>.*)\. Got value: (?P<value>.*)")
CALLABLE_CLASS = re.compile(r"class_path='(?P<path>[^']+)'")
UNKNOWN = re.compile(
    r"(?:Group '(?P<group>[^']*)' does not accept option|Subcommand '\w+' does not accept option|Option) "
    r"'(?P<key>[^']+)'(?: is not accepted)?"
)
UNKNOWN_FLAG = re.compile(r"unrecognized arguments: (?P<flags>.+)")
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
        # One line may name several levels: a key, the class under it, and a key of that class.
        while (level := KEY.fullmatch(text) or CLASS.fullmatch(text)) is not None:
            groups = level.groupdict()
            stack.append((indent, groups.get("key", ""), groups.get("path", "")))
            text = level["rest"].strip()
        if text and not text.startswith(NOISE):
            place = ".".join(key for _, key, _ in stack if key)
            owner = next((path for _, _, path in reversed(stack) if path), "")
            (weak if text.startswith(WEAK) else strong).append(_fault(text, place, owner, known_keys))
    # Every branch of a union reports the same fault: each line once, in order.
    return "\n".join(dict.fromkeys(strong or weak)) or message


def error_message(error: Exception) -> str:
    """What an error says; of the parser's report that a class refused its settings, what that class says."""
    from callbacks.cli.worker_errors import worker_message
    from lightning_modules.policies.remote_code import without_advice

    message = without_advice(worker_message(error))
    return readable(message) if message.startswith(NOISE) else message


def _fault(text: str, place: str, owner: str, known_keys: Iterable[str]) -> str:
    """One finding of the parser in our words, or in its own where we have none.

    Args:
        text: the finding.
        place: the dotted key that it is about, empty at the top.
        owner: the class whose parameters are under that key, empty at the top.
        known_keys: the keys at the top.
    """
    if (match := CALLABLE.fullmatch(text)) is not None:
        # What is said of the class within a callable, such as an optimizer, is the finding.
        inner = CALLABLE_CLASS.search(match["value"])
        text, owner = match["rest"], inner["path"] if inner else owner
    if (match := UNKNOWN.fullmatch(text)) is not None:
        key = ".".join(part for part in (match["group"], match["key"]) if part)
        return _unknown(key, place, "" if match["group"] else owner, known_keys)
    if (match := UNKNOWN_FLAG.fullmatch(text)) is not None:
        flag = match["flags"].split()[0].split("=")[0].lstrip("-")
        return _unknown(flag, place, "", known_keys)
    if (match := REQUIRED.fullmatch(text)) is not None:
        names = [re.sub(r"^(fit|validate|test|predict)\.", "", name.strip()) for name in match["keys"].split(",")]
        keys = ", ".join(repr(_joined(place, name)) for name in names)
        return f"missing {keys}: give a value in a --config file or as a flag"
    if (match := NO_CLASS.fullmatch(text)) is not None:
        return f"'{place}': {_no_class(match['name'])}"
    if text.startswith("Not a valid subclass of"):
        return f"'{place}': {text}; write `class_path: <Class>` and its `init_args:` under this key"
    return f"'{place}': {text}" if place else text


def _unknown(key: str, place: str, owner: str, known_keys: Iterable[str]) -> str:
    owned = f" ({owner} has no such parameter)" if owner else ""
    full = _joined(place, key)
    if (renamed := current_key(full)) != full:
        return f"unknown key '{full}'{owned}; it is now '{renamed}'"
    names = _parameters(owner) if owner else known_keys
    # A near miss of the whole key, or of its first part where what follows is right.
    hint = _suggestion(key, names) or _suggestion(key.partition(".")[0], names)
    return f"unknown key '{full}'{owned}{hint}"


def _joined(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _parameters(class_path: str) -> list[str]:
    """The names that a class accepts, its bases' included; none when it cannot be imported."""
    module, _, name = class_path.rpartition(".")
    try:
        bases = getattr(importlib.import_module(module), name).__mro__
        return [parameter for base in bases for parameter in inspect.signature(base.__init__).parameters]
    except (ImportError, AttributeError, TypeError, ValueError):
        return []


def _no_class(name: str) -> str:
    """What to write instead of a class name that was not understood here, from the classes that were imported."""
    modules = [module for path, module in sys.modules.copy().items() if path.startswith(NAMED_PACKAGES)]
    classes = {key: kind for module in modules for key, kind in vars(module).items() if isinstance(kind, type)}
    renamed = current_class(name)
    if renamed != name and renamed in classes:
        return f"no class is called '{name}'; it is now '{renamed}'"
    if name in classes:
        return f"write '{name}' in full, {classes[name].__module__}.{name}; or this key wants a class of another kind"
    hint = _suggestion(name, classes) or "; give its full path, package.module.Class"
    return f"no class is called '{name}'{hint}"


def _suggestion(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.75)
    return f"; did you mean '{near[0]}'?" if near else ""
