"""Which classes a configuration may name without their module."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from types import ModuleType

#: The packages that hold classes for configurations.
CONFIG_PACKAGES = ("lightning_modules", "datamodules", "callbacks", "benchmarks")
#: Packages in them to be run, not to be named: importing them costs time, or starts something.
_PROGRAMS = frozenset({"toy", "speed", "report", "labelling"})


def import_config_classes(packages: Sequence[str] = CONFIG_PACKAGES) -> list[ModuleType]:
    """Import every module in which a configuration may name a class: only imported classes have short names.

    Args:
        packages: the packages to look through, those within them included.

    Returns:
        The modules.
    """
    return [module for package in packages for module in _modules(importlib.import_module(package))]


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
