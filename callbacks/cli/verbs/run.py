"""``run``: the stages of a recipe, from data to a report, by one command that goes on where it ended."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callbacks.cli.recipes.recipe import Recipe
    from callbacks.cli.recipes.stage import Stage

DESCRIPTION = """Runs the stages of a recipe, each a command with what it reads and writes. What is done is passed over;
the same command again goes on after an error, a signal or a kill. See docs/recipes.md and configs/recipes/."""


def main(arguments: list[str]) -> int:
    """Run a recipe, or say what would run.

    Args:
        arguments: the verb and its options.
    """
    options = run_parser().parse_args(arguments[1:])
    from callbacks.cli.recipes.recipe import read_recipe
    from callbacks.cli.recipes.records import Place
    from callbacks.cli.recipes.runner import exit_status, run_stages
    from callbacks.cli.recipes.stage import dependencies, require_inputs
    from callbacks.cli.verbs import VERBS

    recipe = read_recipe(options.recipe, [verb for verb in VERBS if verb != "run"], settings(options.set))
    graph = dependencies(recipe.stages, Path())
    names = selected(recipe, options.start, options.only)
    require_inputs(recipe.stages, graph, Path(), names)
    check_commands([stage for stage in recipe.stages if stage.name in names])
    if options.dry_run:
        print(plan(recipe, graph, names, Place(recipe.output, Path())))
        return 0
    return exit_status(lambda: run_stages(recipe.stages, recipe.output, jobs=options.jobs, selected=names))


def run_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser("vidpref run", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("recipe", type=Path, help="a YAML file, as those under configs/recipes/")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--from", dest="start", metavar="NAME", help="begin at this stage; those above it in the recipe count as done"
    )
    which.add_argument("--only", metavar="NAME", help="this stage alone")
    parser.add_argument("--jobs", type=int, default=1, help="stages that run side by side (1)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one of the recipe's values; may be repeated"
    )
    parser.add_argument(
        "--dry-run", "--dry_run", action="store_true", help="print every command and whether it is done, and run none"
    )
    return parser


def settings(given: Sequence[str]) -> dict[str, Any]:
    """``NAME=VALUE`` -> values; a value is read as YAML.

    Raises:
        ValueError: one is not of this form.
    """
    import yaml

    values = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text}: give NAME=VALUE")
        values[name] = yaml.safe_load(value)
    return values


def selected(recipe: Recipe, start: str | None, only: str | None) -> list[str]:
    """The names of the stages that ``--from`` or ``--only`` select.

    Raises:
        ValueError: there is no such stage.
    """
    names = [stage.name for stage in recipe.stages]
    if (named := start or only) is None:
        return names
    if named not in names:
        flag = "--from" if start is not None else "--only"
        raise ValueError(f"{flag} {named}: no such stage; the stages are {', '.join(names)}")
    return names[names.index(named) :] if start is not None else [named]


def check_commands(stages: Sequence[Stage]) -> None:
    """Have every command read by its verb's parser; one whose configuration is not made yet is left for later.

    Raises:
        ValueError: the first fault, with its stage.
    """
    from callbacks.cli.verbs.command_check import check_command

    for stage in stages:
        if all(path.exists() for path in stage.inputs(Path()) if path.suffix == ".yaml"):
            try:
                check_command(stage.words)
            except ValueError as error:
                raise ValueError(f"stage '{stage.name}': {error}\n({stage.line})") from error


def plan(recipe: Recipe, graph: dict[str, set[str]], names: Sequence[str], place: Any) -> str:
    """Every selected stage with its command, and whether it is done, as far as that is known before the others ran."""
    lines, unfinished = [], set[str]()
    for stage in recipe.stages:
        if stage.name not in names:
            continue
        reason = place.why_unfinished(stage)
        first = sorted(graph[stage.name] & unfinished)
        if reason or first:
            unfinished.add(stage.name)
        state = f"to run: {reason}" if reason else f"done, unless {first[0]} changes what it reads" if first else "done"
        lines.append(f"{stage.name}: {state}\n    {stage.line}")
    return "\n".join(lines)
