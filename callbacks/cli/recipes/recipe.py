"""Recipes: YAML files of stages, with names for values and rounds of stages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from callbacks.cli.recipes.stage import PYTHON, Stage

_KEYS = {"output", "values", "stages"}
_STAGE_KEYS = {"title", "run", "devices", "reads", "writes", "after"}
_ROUNDS_KEYS = {"rounds", "carry", "stages"}
_CARRY_KEYS = {"first", "then"}
_PLACEHOLDER = re.compile(r"\$\{([\w.]+)\}")
_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Recipe as it was read: stages, and the folder of their records and logs."""

    output: Path
    stages: list[Stage]


class _Loader(yaml.SafeLoader):
    """YAML in which a key that is there twice is an error: the second of two stages would replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(
                f"line {node.start_mark.line + 1}: '{twice[0]}' is there twice; give each a name of its own"
            )
        return super().construct_mapping(node, deep)


def read_recipe(path: Path, verbs: Collection[str], settings: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe; see docs/recipes.md for what it may hold.

    Args:
        path: the YAML file.
        verbs: the first words that a command may have, beside ``python``.
        settings: replace those of its `values`.

    Raises:
        ValueError: says where the fault is, and what is right.
    """
    if not path.is_file():
        raise ValueError(f"there is no recipe {path}; those that come with the project are in configs/recipes/")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 a kind of SafeLoader
        return _Reader(verbs).recipe(content, settings or {})
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error


class _Reader:
    """Reader of a recipe's content."""

    def __init__(self, verbs: Collection[str]) -> None:
        self.verbs = verbs
        self.stages: list[Stage] = []

    def recipe(self, content: Any, settings: Mapping[str, Any]) -> Recipe:
        _require_keys(content, "the recipe", _KEYS, needed={"output", "stages"})
        values: dict[str, Any] = {}
        given = _mapping(content.get("values") or {}, "values")
        if unknown := sorted(set(settings) - {*given, "output"}):
            raise ValueError(f"there is no value '{unknown[0]}' to set; the values are {', '.join(given) or 'none'}")
        for name, value in {"output": content["output"], **given, **settings}.items():
            # Those before it are known: one may be made of another.
            values[name] = _filled(value, values, f"values.{name}")
        self._read(content["stages"], values, "stages", "")
        return Recipe(Path(values["output"]), self.stages)

    def _read(self, stages: Any, values: dict[str, Any], where: str, ending: str) -> None:
        """Read stages, into which values are filled in; `ending` is that of their round."""
        for name, content in _mapping(stages, where).items():
            place = f"{where}.{name}"
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ValueError(f"{place}: a stage's name has letters, digits, - and _")
            if isinstance(content, Mapping) and "rounds" in content:
                if ending:
                    raise ValueError(f"{place}: rounds within rounds; write the inner stages out")
                self._rounds(content, values, place)
            else:
                self.stages.append(self._stage(f"{name}{ending}", content, values, place, set(stages), ending))

    def _stage(
        self, name: str, content: Any, values: Mapping[str, Any], place: str, neighbours: set[str], ending: str
    ) -> Stage:
        _require_keys(content, place, _STAGE_KEYS, needed={"run"})
        command = self._split(content["run"], values, f"{place}.run")
        if not command:
            raise ValueError(f"{place}.run: give a command, the verb first")
        if command[0] != PYTHON and command[0] not in self.verbs:
            raise ValueError(
                f"{place}.run: unknown verb '{command[0]}'; the verbs are {', '.join(self.verbs)}, and "
                "python -m MODULE runs a module"
            )
        lists = {
            key: [text for path in _list(content.get(key)) for text in _paths(_filled(path, values, f"{place}.{key}"))]
            for key in ("reads", "writes", "after")
        }
        # A stage of a round names those of its own round without the number.
        after = [f"{other}{ending}" if other in neighbours else other for other in lists["after"]]
        title = str(_filled(content.get("title", ""), values, f"{place}.title"))
        title += f", round {values['round']}" if title and ending else ""
        devices = self._split(content.get("devices", []), values, f"{place}.devices")
        return Stage(name, command, lists["reads"], lists["writes"], after, title, devices)

    def _split(self, text: Any, values: Mapping[str, Any], place: str) -> list[str]:
        """The words of a command: first split, then filled in, so that a value with a space stays one word."""
        words = shlex.split(text, comments=True) if isinstance(text, str) else text
        if not isinstance(words, list):
            raise ValueError(f"{place}: give one text or a list of words")
        return [part for word in words for part in _words(_filled(word, values, place))]

    def _rounds(self, content: Mapping[str, Any], values: dict[str, Any], place: str) -> None:
        """Stages that are repeated, with what each round hands to the next."""
        _require_keys(content, place, _ROUNDS_KEYS, needed=_ROUNDS_KEYS - {"carry"})
        rounds = _filled(content["rounds"], values, f"{place}.rounds")
        if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 1:
            raise ValueError(f"{place}.rounds is {rounds!r}; give a number from 1")
        carry = _mapping(content.get("carry") or {}, f"{place}.carry")
        for name, item in carry.items():
            _require_keys(item, f"{place}.carry.{name}", _CARRY_KEYS, needed=_CARRY_KEYS)
        carried = {name: _filled(item["first"], values, f"{place}.carry.{name}") for name, item in carry.items()}
        for number in range(1, rounds + 1):
            own = values | {"round": number} | {f"previous.{name}": value for name, value in carried.items()}
            self._read(content["stages"], own, f"{place}.stages", f"-{number}")
            carried = {name: _filled(item["then"], own, f"{place}.carry.{name}") for name, item in carry.items()}
        # For the stages behind the rounds.
        values |= {f"last.{name}": value for name, value in carried.items()}


def _filled(value: Any, values: Mapping[str, Any], place: str) -> Any:
    """A value with its placeholders filled in; one that is a placeholder alone becomes the value of its own kind."""
    if isinstance(value, list):
        return [text for item in value for text in _words(_filled(item, values, place))]
    if not isinstance(value, str):
        return value
    for name in _PLACEHOLDER.findall(value):
        if name not in values:
            raise ValueError(f"{place}: ${{{name}}} is not known here; known are {', '.join(values)}")
    if (alone := _PLACEHOLDER.fullmatch(value)) is not None:
        return values[alone[1]]
    if lists := [name for name in _PLACEHOLDER.findall(value) if isinstance(values[name], list)]:
        raise ValueError(f"{place}: ${{{lists[0]}}} is a list, which is a word of its own and no part of one")
    return _PLACEHOLDER.sub(lambda match: _text(values[match[1]]), value)


def _words(value: Any) -> list[str]:
    """A filled-in value as words of a command: a list as several, null as the word that takes a setting back."""
    return [_text(item) for item in value] if isinstance(value, list) else [_text(value)]


def _paths(value: Any) -> list[str]:
    """A filled-in value as paths: null is none."""
    return [text for text in _words(value) if text not in ("null", "")]


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is neither a text nor a number")
    return str(value)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{place}: give names and what they are, one below the other")
    return value


def _require_keys(content: Any, place: str, keys: set[str], needed: set[str]) -> None:
    mapping = _mapping(content, place)
    if unknown := [key for key in mapping if key not in keys]:
        raise ValueError(f"{place}: unknown key '{unknown[0]}'; the keys are {', '.join(sorted(keys))}")
    if lacking := sorted(needed - set(mapping)):
        raise ValueError(f"{place}: '{lacking[0]}' is lacking")
