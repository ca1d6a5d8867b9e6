"""The modules whose classes a configuration may name without their module."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

#: The packages that hold classes for configurations.
CONFIG_PACKAGES = ("lightning_modules", "datamodules", "callbacks", "benchmarks")
#: Packages in them to be run, not to be named: importing them costs time, or starts something.
_PROGRAMS = frozenset({"toy", "speed", "gpu", "report", "labelling", "verbs", "recipes", "estimate"})
#: Libraries that peft and transformers import where they are installed, and whose classes have torch's own short names
#: (bitsandbytes.optim.AdamW); they are named by their whole paths.
_BY_WHOLE_PATH = ("bitsandbytes.",)


def import_config_classes(packages: Sequence[str] = CONFIG_PACKAGES) -> list[ModuleType]:
    """Import every module in which a configuration may name a class: only imported classes have short names.

    Args:
        packages: the packages to look through, those within them included.

    Returns:
        The modules.
    """
    _leave_out_foreign_names()
    return [module for package in packages for module in _modules(importlib.import_module(package))]


def _leave_out_foreign_names() -> None:
    """Keep `AdamW` one class: jsonargparse offers every imported subclass, and refuses a name that two of them have."""
    from jsonargparse import _typehints

    listed = _typehints.get_all_subclass_paths
    if getattr(listed, "leaves_out", None) == _BY_WHOLE_PATH:
        return

    @functools.wraps(listed)
    def own_names(*args: Any, **kwargs: Any) -> list[str]:
        return [path for path in listed(*args, **kwargs) if not path.startswith(_BY_WHOLE_PATH)]

    own_names.leaves_out = _BY_WHOLE_PATH  # type: ignore[attr-defined]
    _typehints.get_all_subclass_paths = own_names


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    # `pkgutil.walk_packages` would import the packages that are left out here.
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        name = info.name.rpartition(".")[2]
        # Packages only: lightning_modules/judges/toy.py holds a class for configurations.
        if name.startswith("_") or (info.ispkg and name in _PROGRAMS):
            continue
        module = importlib.import_module(info.name)
        yield module
        if info.ispkg:
            yield from _modules(module)
