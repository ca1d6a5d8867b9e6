from pathlib import Path

import pytest
from rich.console import Console

import vidpref
from benchmarks.toy import stages as runner
from benchmarks.toy.demo import MARKER, main, stages
from benchmarks.toy.stages import ROOT, CommandStage, clear, run_stage, run_stages
from tests.support.other_writer import other_writer


def test_every_stage_is_a_command_of_its_own(tmp_path: Path) -> None:
    found = stages(tmp_path, 7)
    assert len({stage.name for stage in found}) == len(found)
    verbs = [stage.arguments[0] for stage in found]
    vista = ["prepare"] * 3 + ["fit", "validate"] * 2 + ["test"] * 3
    assert verbs == [*vista, "prepare", "predict", "predict", "fit", "prepare", "predict", "predict"]
    # What the judge says follows from the pairs alone.
    assert all("7" in stage.arguments for stage in found if stage.name != "dense-labels")
    assert all(verb in vidpref.VERBS for verb in verbs)
    configs = [stage.arguments[2] for stage in found if stage.arguments[1] == "--config"]
    assert all((ROOT / config).is_file() for config in configs)


def test_a_stages_output_goes_to_its_log_and_steps_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho hello\necho 'step 3: loss 0.5'\n")
    script.chmod(0o755)
    monkeypatch.setattr(runner.sys, "executable", str(script))
    progress: list[str] = []
    run_stage(CommandStage("fit it", "fit", ["fit", "--seed", "a b"]), tmp_path, progress.append)
    assert progress == ["step 3: loss 0.5"]
    assert (tmp_path / "fit.log").read_text() == "$ vidpref fit --seed 'a b'\nhello\nstep 3: loss 0.5\n"


def test_a_failed_stage_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"stage 'try' failed; .*try\.log ends with:\n(.*\n)*.*unknown verb 'fitt'"):
        run_stage(CommandStage("try", "try", ["fitt"]), tmp_path, print)


def test_all_stages_are_timed_and_shown(tmp_path: Path) -> None:
    console = Console(record=True, quiet=True)
    wanted = [CommandStage("first", "a", ["--help"]), CommandStage("second", "b", ["prepare", "--help"])]
    seconds = run_stages(wanted, tmp_path, console)
    assert list(seconds) == ["a", "b"]
    assert "prepare" in (tmp_path / "b.log").read_text()


def test_only_a_demos_own_folder_is_emptied_and_by_one_demo_at_a_time(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="no earlier run wrote"):
        clear(mine, MARKER)
    assert main(["--output", str(mine)]) == 1
    assert (mine / "thesis.txt").is_file()

    with other_writer(tmp_path / "theirs", is_folder=False):
        assert main(["--output", str(tmp_path / "theirs")]) == 1
    assert not (tmp_path / "theirs").exists()

    old = tmp_path / "old"
    clear(old, MARKER)
    (old / MARKER).write_text("{}")
    (old / "report.html").write_text("old")
    clear(old, MARKER)
    assert [path.name for path in old.iterdir()] == ["logs"]
