"""Classes are named in configurations by their short names, so a file that moves breaks nobody's YAML."""

from __future__ import annotations

import re
from collections import defaultdict

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


def test_configurations_name_optimizers_in_full() -> None:
    """Other packages have an `AdamW` too, and an installed bitsandbytes would make every configuration ambiguous."""
    import torch

    names = {name for name in dir(torch.optim) if name[0].isupper()}
    short = re.compile(rf"class_path: ({'|'.join(names)})$", re.MULTILINE)
    assert [str(path) for path in (ROOT / "configs").rglob("*.yaml") if short.search(path.read_text())] == []
