"""Every recipe under configs/recipes/ has an order, an honest header, and commands that their verbs accept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from callbacks.cli.parse_line import ParseLine
from callbacks.cli.recipes.recipe import Recipe, read_recipe
from callbacks.cli.recipes.stage import Stage, dependencies
from callbacks.cli.verbs import VERBS
from callbacks.cli.verbs.command_check import check_command
from tests.support.paths import ROOT
from tests.test_configs import header

RECIPES = sorted((ROOT / "configs" / "recipes").glob("*.yaml"))
#: File -> the stages that the way of its method has, and the checkpoint that it is about.
WAYS = {
    "vista": ["prepare", "check", "cache", "fit", "test-base", "test-vista", "report"],
    "dense": [
        "videos",
        "pairs",
        "labels",
        "check",
        "fit",
        "sample-base",
        "sample-dense",
        "test-base",
        "test-dense",
        "report",
    ],
}
MODELS = {
    "vista_video_llava": "LanguageBind/Video-LLaVA-7B-hf",
    "vista_pllava": "ermu2001/pllava-7b",
    "vista_qwen3_vl": "Qwen/Qwen3-VL-8B-Instruct",
    "dense_wan21": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "dense_wan21_rounds": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "dense_wan22_ti2v": "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
}
#: Eight GPUs, as the headers say.
EIGHT = {"gpus": ["--config", "configs/strategy/ddp.yaml"]}


def name(path: Path) -> str:
    return path.stem


def read(path: Path, **settings: object) -> Recipe:
    return read_recipe(path, [verb for verb in VERBS if verb != "run"], settings)


def by_name(recipe: Recipe) -> dict[str, Stage]:
    return {stage.name: stage for stage in recipe.stages}


def test_all_recipes_are_there() -> None:
    assert {path.stem for path in RECIPES} == set(MODELS)


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_stages_go_the_whole_way_in_their_order(path: Path) -> None:
    recipe = read(path)
    graph = dependencies(recipe.stages, ROOT)
    names = [stage.name for stage in recipe.stages]
    if path.stem in ("dense_wan21_rounds",):
        assert names[:4] == ["videos", "pairs-1", "labels-1", "fit-1"]
        assert "fit-1" in graph["pairs-2"], "the pairs of a round are made by the last adapter"
        assert "fit-2" in graph["fit-3"]
        assert "fit-3" in graph["sample-dense"]
    else:
        assert names == WAYS[path.stem.partition("_")[0]]
        assert "check" in graph["fit"]
    before: set[str] = set()
    for stage in recipe.stages:
        assert graph[stage.name] <= before, "read from top to bottom"
        before.add(stage.name)


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_what_stages_read_and_write_is_what_their_commands_name(path: Path) -> None:
    """A path that a command does not name, or one that it names and nobody declares, would be a wrong order."""
    recipe = read(path)
    outputs = {str(output) for stage in recipe.stages for output in stage.outputs(Path())}
    for stage in recipe.stages:
        line = stage.line.replace("[", " ").replace("]", " ")
        named = set(re.findall(rf"{recipe.output}/[\w./-]+", line))
        declared = {str(part) for part in [*stage.reads, *stage.writes]}
        for part in declared:
            base = part.removesuffix(".index.json")
            assert any(base.startswith(text) or text.startswith(base) for text in named | set(stage.words)), part
        for text in named:
            made = [output for output in outputs if text == output or text.startswith(f"{output}/")]
            assert all(output in declared or any(part.startswith(output) for part in declared) for output in made), text


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_header_says_what_it_takes_and_how_that_was_estimated(path: Path) -> None:
    text = header(path)
    for words in (f"vidpref run {path.relative_to(ROOT)}", "GPUs", "emory", "ours by estimate", "ounted"):
        assert words in text, words


@pytest.mark.slow  # every verb's own parser
@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_every_command_is_accepted_by_its_verb(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for recipe in (read(path), read(path, **EIGHT)):
        for stage in recipe.stages:
            for config in stage.inputs(Path()):
                assert config.suffix != ".yaml" or config.is_file()
            check_command(stage.words)


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_all_stages_are_about_one_model(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    stages = by_name(read(path, **EIGHT))
    policies = {}
    for stage in stages.values():
        if stage.command[0] in ("fit", "test", "predict"):
            config = ParseLine(stage.words).config[stage.command[0]]
            policy = getattr(config.model.init_args, "policy", None)
            if policy is not None:
                policies[stage.name] = policy.init_args
                # On eight GPUs the batch stays that of one: 8 for VistaDPO, 256 for DenseDPO.
                assert config.trainer.strategy.class_path.endswith("DDPStrategy"), stage.name
    assert {policy.path for policy in policies.values()} == {MODELS[path.stem]}
    assert {policy.dtype for policy in policies.values()} == {"bfloat16"}
    adapters = {stage: policy.adapter for stage, policy in policies.items() if getattr(policy, "adapter", None)}
    trained = "test-vista" if path.stem.startswith("vista") else "sample-dense"
    assert adapters[trained].endswith("/exports/last")
    assert all(stage not in adapters for stage in ("test-base", "sample-base", "cache"))
