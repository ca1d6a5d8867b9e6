"""Recipes as YAML: values, rounds, and faults that are named before anything runs."""

from pathlib import Path

import pytest

from callbacks.cli.recipes.recipe import Recipe, read_recipe

VERBS = ("prepare", "fit", "predict")
ROUNDS = """
output: runs/x
values:
  base: models/wan
  gpus: [--trainer.devices, 8]
  none: []
stages:
  prepare:
    run: prepare videos ${base} "a b"
    writes: ${output}/videos.index.json
  improve:
    rounds: 3
    carry:
      adapter: {first: null, then: "${output}/fit-${round}/exports/last"}
    stages:
      pairs:
        title: make pairs
        run: predict --adapter ${previous.adapter} ${none}
        devices: ${gpus}
        reads: ["${output}/videos.index.json", "${previous.adapter}"]
        writes: ["${output}/pairs-${round}.index.json"]
      fit:
        run: [fit, --name, "${round} of 3"]
        writes: "${output}/fit-${round}"
        after: [pairs, prepare]
  report:
    run: python -m benchmarks.report ${last.adapter}
    reads: ${last.adapter}
    after: fit-3
"""


def read(tmp_path: Path, text: str, **settings: object) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_recipe(path, VERBS, settings)


def test_rounds_become_stages_with_numbers(tmp_path: Path) -> None:
    recipe = read(tmp_path, ROUNDS)
    assert recipe.output == Path("runs/x")
    stages = {stage.name: stage for stage in recipe.stages}
    assert list(stages) == ["prepare", "pairs-1", "fit-1", "pairs-2", "fit-2", "pairs-3", "fit-3", "report"]
    assert stages["prepare"].command == ["prepare", "videos", "models/wan", "a b"]
    assert stages["prepare"].writes == ["runs/x/videos.index.json"]
    assert stages["pairs-1"].command == ["predict", "--adapter", "null"]
    assert stages["pairs-1"].line == "vidpref predict --adapter null --trainer.devices 8"
    assert stages["fit-1"].devices == []
    assert stages["pairs-1"].reads == ["runs/x/videos.index.json"], "there is no adapter before the first round"
    assert stages["pairs-1"].title == "make pairs, round 1"
    assert stages["pairs-3"].command[2] == "runs/x/fit-2/exports/last"
    assert stages["pairs-3"].reads == ["runs/x/videos.index.json", "runs/x/fit-2/exports/last"]
    assert stages["fit-2"].command == ["fit", "--name", "2 of 3"]
    assert stages["fit-2"].after == ["pairs-2", "prepare"]
    assert stages["report"].command == ["python", "-m", "benchmarks.report", "runs/x/fit-3/exports/last"]
    assert stages["report"].after == ["fit-3"]


def test_settings_replace_values_and_those_made_of_them(tmp_path: Path) -> None:
    text = "output: runs/x\nvalues: {a: 1, b: '${a}-${output}'}\nstages: {s: {run: 'fit ${b}'}}"
    assert read(tmp_path, text).stages[0].command == ["fit", "1-runs/x"]
    assert read(tmp_path, text, a=2, output="runs/y").stages[0].command == ["fit", "2-runs/y"]
    with pytest.raises(ValueError, match=r"there is no value 'c' to set; the values are a, b"):
        read(tmp_path, text, c=3)


def test_a_value_with_a_space_stays_one_word(tmp_path: Path) -> None:
    text = "output: o\nvalues: {a: my videos, b: true}\nstages: {s: {run: 'fit --x ${a} ${b}  # why'}}"
    assert read(tmp_path, text).stages[0].command == ["fit", "--x", "my videos", "true"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: {}", "the recipe: 'output' is lacking"),
        ("[1]", "the recipe: give names and what they are"),
        ("output: o\nstages: {}\nvars: {}", "the recipe: unknown key 'vars'; the keys are output, stages, values"),
        (
            "output: o\nstages: {s: {run: fit, read: x}}",
            "stages.s: unknown key 'read'; the keys are after, dev",
        ),
        ("output: o\nstages: {s: {reads: x}}", "stages.s: 'run' is lacking"),
        ("output: o\nstages: {s: {run: fitt --x}}", r"stages.s.run: unknown verb 'fitt'; the verbs are prepare, fit"),
        ("output: o\nstages: {s: {run: ''}}", "stages.s.run: give a command"),
        ("output: o\nstages: {s: {run: {fit: 1}}}", "stages.s.run: give one text or a list of words"),
        ("output: o\nstages: {s: {run: 'fit ${x}'}}", r"stages.s.run: \$\{x\} is not known here; known are output"),
        ("output: o\nstages: {s: {run: 'fit ${previous.x}'}}", r"\$\{previous.x\} is not known here"),
        ("output: o\nvalues: {g: [a]}\nstages: {s: {run: 'fit --x=${g}'}}", r"\$\{g\} is a list, which is a word of"),
        ("output: o\nvalues: {g: {a: 1}}\nstages: {s: {run: 'fit ${g}'}}", "{'a': 1} is neither a text nor a number"),
        ("output: o\nstages: {s/t: {run: fit}}", "stages.s/t: a stage's name has letters, digits, - and _"),
        ("output: o\nstages:\n  s: {run: fit}\n  s: {run: predict}", "line 3: 's' is there twice"),
        ("output: o\nstages: {r: {rounds: 0, stages: {}}}", "stages.r.rounds is 0; give a number from 1"),
        ("output: o\nstages: {r: {rounds: many, stages: {}}}", "stages.r.rounds is 'many'"),
        ("output: o\nstages: {r: {rounds: 2, run: fit}}", "stages.r: unknown key 'run'; the keys are carry, rounds"),
        ("output: o\nstages: {r: {rounds: 1, carry: {a: {first: 1}}, stages: {}}}", "stages.r.carry.a: 'then' is lack"),
        (
            "output: o\nstages: {r: {rounds: 1, stages: {i: {rounds: 1, stages: {}}}}}",
            "stages.r.stages.i: rounds within rounds",
        ),
        ("output: [", "while parsing a flow"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'recipe.yaml'}: ")


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no recipe .*; those that come with the project are in configs/rec"):
        read_recipe(tmp_path / "none.yaml", VERBS)
