from pathlib import Path

import pytest

import vidpref
from benchmarks.toy.commands import ROOT, from_root
from benchmarks.toy.demo import main, stages
from benchmarks.toy.dense.methods import CONTROLS, METHODS, Size
from benchmarks.toy.dense.stages import DenseStages
from callbacks.cli.recipes.stage import PYTHON, Stage, dependencies, require_inputs
from tests.support.other_writer import other_writer


def test_every_stage_is_a_command_of_its_own(tmp_path: Path) -> None:
    demo = stages(tmp_path, 7)
    assert len({stage.name for stage in demo}) == len(demo)
    verbs = [stage.command[0] for stage in demo]
    vista = ["prepare"] * 4 + ["fit", "validate"] * 2 + ["test", PYTHON] * 3
    assert verbs == [*vista, "prepare", "predict", "predict", "fit", "prepare", "predict", "predict"]
    # What the judge says follows from the pairs alone.
    assert all("7" in stage.command for stage in demo if stage.name != "dense-labels" and stage.command[0] != PYTHON)
    assert all(verb in vidpref.VERBS or verb == PYTHON for verb in verbs)
    configs = [stage.command[2] for stage in demo if stage.command[1] == "--config"]
    assert all((ROOT / config).is_file() for config in configs)


@pytest.mark.parametrize("demo", [True, False])
def test_stages_come_after_those_whose_files_they_name(tmp_path: Path, demo: bool) -> None:
    every: list[Stage] = stages(tmp_path, 0)
    if not demo:
        make, methods = DenseStages(tmp_path, Size()), {**METHODS, **CONTROLS}
        every = [*make.data(methods), *make.runs(methods, {name: [1e-4] for name in methods}, [0, 1])]
    graph = dependencies(every, ROOT)
    require_inputs(every, graph, ROOT, [stage.name for stage in every])
    files = {str(path): stage.name for stage in every for path in stage.outputs(ROOT)}
    for stage in every:
        for word in stage.command:
            maker = next((files[path] for path in files if word == path or word.startswith(f"{path}/")), stage.name)
            assert maker == stage.name or maker in graph[stage.name], f"{stage.name} names {word} of {maker}"


def test_a_demo_is_run_by_one_process_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with other_writer(tmp_path / "theirs", is_folder=False):
        assert main(["--output", str(tmp_path / "theirs")]) == 1
    assert "is being written by process" in capsys.readouterr().err
    assert not (tmp_path / "theirs").exists()


def test_paths_are_short_where_they_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert from_root(Path("runs/demo")) == Path("runs/demo")
    monkeypatch.chdir(tmp_path)
    assert from_root(Path("runs/demo")) == tmp_path / "runs" / "demo"
