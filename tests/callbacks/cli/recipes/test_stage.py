"""The order of stages follows from what they read and write; what cannot run is refused with a remedy."""

from pathlib import Path

import pytest

from callbacks.cli.recipes.stage import Stage, dependencies, require_inputs


def stage(
    name: str, reads: list[str] | None = None, writes: list[str] | None = None, after: tuple[str, ...] = ()
) -> Stage:
    return Stage(name, ["fit"], reads or [], writes or [], after)


def test_a_stage_comes_after_those_that_write_what_it_reads(tmp_path: Path) -> None:
    stages = [
        stage("test", ["run/exports/last", "questions.json"], ["results"]),
        stage("fit", ["train.index.json"], ["run"]),
        stage("prepare", [], ["./train.index.json"]),
        stage("score", ["samples"]),
        stage("sample-base", [], ["samples/base"]),
        stage("sample-fit", ["run/exports/last"], ["samples/fit"]),
        stage("say", after=("score", "test")),
    ]
    assert dependencies(stages, tmp_path) == {
        "test": {"fit"},
        "fit": {"prepare"},
        "prepare": set(),
        "score": {"sample-base", "sample-fit"},
        "sample-base": set(),
        "sample-fit": {"fit"},
        "say": {"score", "test"},
    }


def test_names_alike_in_their_beginning_are_other_outputs(tmp_path: Path) -> None:
    stages = [stage("a", [], ["run"]), stage("b", [], ["run-2"]), stage("c", ["run-2/x", "runs"])]
    assert dependencies(stages, tmp_path)["c"] == {"b"}


def test_a_configuration_that_a_stage_writes_is_read(tmp_path: Path) -> None:
    reader = Stage("fit", ["fit", "--config", "made.yaml", '--config={"seed": 1}', "--config=other.yaml"])
    assert reader.inputs(Path("x")) == [Path("x/other.yaml"), Path("x/made.yaml")]
    assert dependencies([reader, stage("make", [], ["made.yaml"])], tmp_path)["fit"] == {"make"}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([stage("a"), stage("a")], r"two stages are called 'a'; give each a name of its own"),
        ([stage("a", after=("b",))], r"stage 'a' comes after 'b', which is none of a"),
        ([stage("a", ["x"], ["x/y"])], r"stage 'a' waits for itself: it reads what it writes"),
        (
            [stage("a", [], ["x"]), stage("b", [], ["x"])],
            r"stages 'a' and 'b' both write .*x, or one",
        ),
        ([stage("a", [], ["x"]), stage("b", [], ["./x/y"])], r"stages 'a' and 'b' both write"),
        ([stage("b", [], ["x/y"]), stage("a", [], ["x"])], r"stages 'b' and 'a' both write"),
        (
            [stage("a", ["z"], ["x"]), stage("b", ["x"], ["y"]), stage("c", ["y"], ["z"])],
            r"stages wait for each other: 'a' after 'c' after 'b' after 'a'|'b' after 'a' after|'c' after 'b' after",
        ),
    ],
)
def test_stages_that_have_no_order_are_refused(tmp_path: Path, stages: list[Stage], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dependencies(stages, tmp_path)


def test_what_nobody_writes_must_be_there(tmp_path: Path) -> None:
    stages = [stage("prepare", ["videos"], ["train.index.json"]), stage("fit", ["train.index.json"], ["run"])]
    graph = dependencies(stages, tmp_path)
    with pytest.raises(ValueError, match=r"stage 'prepare' reads .*videos, which is not there; correct it"):
        require_inputs(stages, graph, tmp_path, ["prepare", "fit"])
    with pytest.raises(ValueError, match=r"'fit' reads .*, which is not there; run stage 'prepare' first"):
        require_inputs(stages, graph, tmp_path, ["fit"])
    (tmp_path / "videos").mkdir()
    require_inputs(stages, graph, tmp_path, ["prepare", "fit"])
    (tmp_path / "train.index.json").touch()
    require_inputs(stages, graph, tmp_path, ["fit"])


def test_an_address_is_no_file_of_this_machine(tmp_path: Path) -> None:
    stages = [stage("fit", ["https://example.org/train.index.json"])]
    require_inputs(stages, dependencies(stages, tmp_path), tmp_path, ["fit"])


def test_a_line_is_what_a_person_types() -> None:
    assert Stage("a", ["fit", "--seed", "a b"]).line == "vidpref fit --seed 'a b'"
    assert Stage("a", ["python", "-m", "benchmarks.report", "x"]).line == "python -m benchmarks.report x"
