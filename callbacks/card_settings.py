"""The settings of a run that are not the defaults, for the card of its export."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_type_hints

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from callbacks.cli.former_names import current_class


def changed_settings(parser: LightningArgumentParser, config: Any) -> dict[str, Any]:
    """Dotted key -> value of every setting that differs from its default, in plain types; classes by short name.

    Args:
        parser: that the configuration was read by; it has the defaults of its sections.
        config: the whole configuration of a start.
    """
    # It was validated when it was read. A worker's death that interrupts a validation would read as a wrong setting.
    text = parser.dump(config, skip_none=False, skip_default=True, skip_validation=True)
    return dict(_changed(yaml.safe_load(text) or {}))


def _changed(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value below a key; what the parser takes for a change though it is none is left out."""
    if isinstance(value, Mapping) and "class_path" in value:
        yield key, current_class(value["class_path"])
        defaults = _class_defaults(value["class_path"])
        for name, inner in (value.get("init_args") or {}).items():
            default = defaults.get(name, MISSING)
            if isinstance(default, Mapping) and isinstance(inner, Mapping):
                inner = {field: item for field, item in inner.items() if item != default.get(field, MISSING)}
            # A tuple is a list to YAML.
            if inner != (list(default) if isinstance(default, tuple) else default):
                yield from _changed(inner, f"{key}.{name}")
    elif isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _changed(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(item, Mapping) and "class_path" in item for item in value):
        # Callbacks and the like, by name as on the command line.
        names = [current_class(item["class_path"]) if isinstance(item, Mapping) else str(item) for item in value]
        yield key, names
        for name, item in zip(names, value, strict=True):
            if isinstance(item, Mapping):
                yield from list(_changed(item, f"{key}.{name}"))[1:]
    else:
        yield key, value


def _class_defaults(path: str) -> dict[str, Any]:
    """Parameter -> default of a class; for an optional dataclass without one, its fields' defaults as a dictionary."""
    module, _, name = path.rpartition(".")
    defaults: dict[str, Any] = {}
    # Of the classes above it as well: a policy hands what it does not know on as **options.
    for parent in reversed(getattr(importlib.import_module(module), name).__mro__):
        if "__init__" not in vars(parent) or parent is object:
            continue
        try:
            hints, signature = get_type_hints(parent.__init__), inspect.signature(parent.__init__)
        except (NameError, TypeError, ValueError):
            continue  # a library's class that cannot be seen into: what was given to it is said
        for parameter in signature.parameters.values():
            hint = hints.get(parameter.name)
            kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)]
            if parameter.default is None and kinds:
                defaults[parameter.name] = {field.name: field.default for field in fields(kinds[0])}
            elif parameter.default is not inspect.Parameter.empty:
                defaults[parameter.name] = parameter.default
    return defaults
