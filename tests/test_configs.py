"""Every YAML under configs/ parses, is started by the command in its header, and composes with the others."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace

import vidpref
from callbacks.cli.parse_line import ParseLine
from callbacks.cli.verbs import prepare
from tests.support.paths import ROOT

CONFIGS = ROOT / "configs"
#: Ablations, recipes and sweeps have tests of their own.
EVERY = sorted(path for path in CONFIGS.rglob("*.yaml") if not {"ablations", "recipes", "sweeps"} & set(path.parts))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def content(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())  # type: ignore[no-any-return]


def header(path: Path) -> str:
    """The comment before the first setting."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return "\n".join(lines)


def verbs(path: Path) -> list[str]:
    """The verbs that the header's commands use this file with."""
    commands = re.sub(r"\\\n\s*", "", header(path)).splitlines()
    return [verb[1] for line in commands if relative(path) in line and (verb := re.search(r"vidpref (\w+)", line))]


def is_overlay(path: Path) -> bool:
    return "model" not in content(path) and "prepare" not in verbs(path)


EXPERIMENTS = [path for path in EVERY if "model" in content(path)]
OVERLAYS = [path for path in EVERY if is_overlay(path)]
BASES = [path for path in EXPERIMENTS if "fit" in verbs(path)]


@cache
def parsed(verb: str, *configs: Path) -> Namespace:
    arguments = [verb]
    for config in configs:
        arguments += ["--config", str(config)]
    return ParseLine(arguments).config[verb]


def callbacks_of(config: Namespace) -> list[str]:
    callbacks = config.trainer.callbacks or []
    return [
        callback.class_path.rpartition(".")[2]
        for callback in (callbacks if isinstance(callbacks, list) else [callbacks])
    ]


def test_all_configs_are_found() -> None:
    assert {"vista_dpo", "strategy"} <= {path.parent.name for path in EVERY}
    assert len(EXPERIMENTS) >= 4
    assert len(OVERLAYS) >= 3


@pytest.mark.parametrize("path", EVERY, ids=relative)
def test_header_has_the_command_that_runs_it(path: Path) -> None:
    assert verbs(path), f"say in the header of {relative(path)}: vidpref <verb> ... --config {relative(path)}"
    assert set(verbs(path)) <= set(vidpref.VERBS)


@pytest.mark.parametrize("path", [path for path in EVERY if path not in OVERLAYS], ids=relative)
def test_config_parses(path: Path) -> None:
    for verb in set(verbs(path)) & {"fit", "validate", "test", "predict"}:
        assert parsed(verb, path).model.class_path
    if path not in EXPERIMENTS:
        source = re.search(r"vidpref prepare ([\w-]+)", header(path))
        assert source is not None
        parser = prepare.prepare_parser(source[1], prepare.function_of(prepare.PREPARE[source[1]]))
        parser.parse_args(["--config", str(path)])


@pytest.mark.slow  # 133 pairs of files
@pytest.mark.parametrize("base", BASES, ids=relative)
@pytest.mark.parametrize("overlay", OVERLAYS, ids=relative)
def test_overlay_keeps_the_callbacks_of_its_base(overlay: Path, base: Path) -> None:
    alone, together = callbacks_of(parsed("fit", base)), callbacks_of(parsed("fit", base, overlay))
    assert together[: len(alone)] == alone


@pytest.mark.parametrize("path", OVERLAYS, ids=relative)
def test_overlay_appends_and_never_replaces(path: Path) -> None:
    assert "callbacks" not in content(path).get("trainer", {}), "an overlay says `callbacks+:`"


@pytest.mark.parametrize("path", BASES, ids=relative)
def test_a_method_with_a_reference_has_its_callback(path: Path) -> None:
    config = parsed("fit", path)
    has_reference = config.model.class_path.endswith(("VistaDPO", ".DenseDPO"))
    assert ("ReferenceModel" in callbacks_of(config)) == has_reference


@pytest.mark.parametrize("path", BASES, ids=relative)
def test_a_run_resumes_by_its_own_command_in_its_own_folder(path: Path) -> None:
    config = parsed("fit", path)
    assert config.ckpt_path == "last"
    others = [content(other)["trainer"]["default_root_dir"] for other in BASES if other != path]
    assert config.trainer.default_root_dir not in others


def test_learning_rates_of_full_and_lora_are_told_apart() -> None:
    full = parsed("fit", CONFIGS / "vista_dpo/video_llava_full.yaml").model.init_args
    lora = parsed("fit", CONFIGS / "vista_dpo/video_llava_lora.yaml").model.init_args
    assert full.policy.init_args.lora is None
    assert full.optimizer.init_args.lr == 5e-7
    assert lora.policy.init_args.lora.r > 0
    assert lora.optimizer.init_args.lr > full.optimizer.init_args.lr


def test_plain_dpo_is_the_response_term_alone() -> None:
    model = parsed("fit", CONFIGS / "vista_dpo/plain_dpo.yaml").model.init_args
    assert {name for name, weight in vars(model.weights).items() if weight} == {"response"}
    assert (model.rejected_weight, model.irrelevant_weight) == (1.0, 0.0)


def test_fsdp_computes_in_bfloat16_and_reduces_in_float32() -> None:
    strategy = parsed(
        "fit", CONFIGS / "vista_dpo/video_llava_full.yaml", CONFIGS / "strategy/fsdp.yaml"
    ).trainer.strategy
    assert strategy.class_path == "lightning_modules.strategies.AdapterFSDP"
    assert (strategy.init_args.param_dtype, strategy.init_args.reduce_dtype) == ("bfloat16", "float32")


def taught() -> str:
    """Everything that tells a user what to type: headers and settings of all configs, README and docs."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(CONFIGS.rglob("*.yaml"))]
    return re.sub(r"\\\n[# ]*", "", "\n".join(page.read_text() for page in pages))


def test_every_export_that_is_named_is_written_by_a_fit() -> None:
    text = taught()
    folders = set(re.findall(r"default_root_dir:? (\S+)", text))
    assert set(re.findall(r"(runs/[\w/-]+)/exports", text)) <= folders


def test_every_data_set_that_is_named_is_written_by_a_command() -> None:
    text = taught()
    written = set(re.findall(r"output:? (data/[\w./-]+)", text))
    for line in text.splitlines():
        if "vidpref prepare" in line:
            written |= set(re.findall(r"data/[\w./-]+", line))
    named = set(re.findall(r"\b(data/[\w./-]+)\.index\.json", text))
    assert named - written == set()


def test_every_folder_of_samples_that_is_named_is_written_by_a_command() -> None:
    text = taught()
    written = set(re.findall(r"(?:\{folder:|VideoFolderWriter\.folder) (runs/[\w/-]+)", text))
    assert set(re.findall(r"(?:data\.folder|^ +folder:) (runs/[\w/-]+)", text, re.M)) <= written


@pytest.mark.parametrize("given", [["--model.policy.adapter", "null"], ["--model.policy.adapter=null"]])
def test_null_takes_back_what_a_configuration_gave(given: list[str]) -> None:
    arguments = ["fit", "--config", str(CONFIGS / "toy/vista.yaml"), "--model.policy.adapter", "somewhere", *given]
    assert ParseLine(arguments).config.fit.model.init_args.policy.init_args.adapter is None
