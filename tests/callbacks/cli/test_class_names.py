"""Classes are named in configurations by their short names, so a file that moves breaks nobody's YAML."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from types import ModuleType

import pytest
import torch
from jsonargparse import ArgumentParser

from callbacks.cli.class_names import CONFIG_PACKAGES, import_config_classes
from tests.support.paths import ROOT


def test_every_short_name_is_one_class() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for module in import_config_classes():
        for name, item in vars(module).items():
            if isinstance(item, type) and item.__module__ == module.__name__ and not name.startswith("_"):
                homes[name].append(module.__name__)
    assert {"VistaDPO", "DensePairs", "WanPolicy", "ReferenceModel", "VideoHallucer", "Cuts", "ToyJudge"} <= set(homes)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_programs_are_not_imported() -> None:
    names = [module.__name__ for module in import_config_classes()]
    assert len(names) == len(set(names))
    assert not [name for name in names if re.search(r"\._|^benchmarks\.(toy|speed|report)\b", name)]


def test_no_configuration_or_page_spells_a_module_path() -> None:
    path = re.compile(rf"\b({'|'.join(CONFIG_PACKAGES)})(\.[a-z_0-9]+)+\.[A-Z]\w+")
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "configs").rglob("*.yaml")]
    assert len(files) > 80
    spelled = [f"{file.name}: {match[0]}" for file in files for match in path.finditer(file.read_text())]
    assert spelled == []


def test_a_library_with_torchs_names_takes_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes, which peft imports where it is installed, has an AdamW of its own."""
    other = type("AdamW", (torch.optim.Optimizer,), {"__module__": "bitsandbytes.of_a_test"})
    module = ModuleType("bitsandbytes.of_a_test")
    module.AdamW = other  # type: ignore[attr-defined]
    # The package is imported before its module, and need not be installed.
    package = sys.modules.get("bitsandbytes", ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setitem(sys.modules, "bitsandbytes.of_a_test", module)
    import_config_classes(("lightning_modules.losses",))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--optimizer", type=torch.optim.Optimizer)
    parsed = parser.parse_object({"optimizer": {"class_path": "AdamW", "init_args": {"params": []}}})
    assert parsed.optimizer.class_path in ("torch.optim.AdamW", "torch.optim.adamw.AdamW")
    assert not issubclass(torch.optim.AdamW, other)
