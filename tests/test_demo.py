import json
import shlex
from pathlib import Path

import pytest

from benchmarks.toy.demo import MARKER, SAID_TITLE, SCORES, main, stages
from benchmarks.toy.dense.scores import score_folder
from benchmarks.toy.vista.page import SAID


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_runs_and_shows_what_both_methods_did(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    assert main(["--output", str(output), "--seed", "0"]) == 0
    page = (output / "report.html").read_text()
    for text in (
        "Both methods on the toy worlds, seed 0",
        "<svg",
        "reward accuracy",
        "DenseDPO: videos before and after",
    ):
        assert text in page
    assert page.count("data:image/png;base64,") >= 2, "the six views, and videos before and after"
    assert all(term in page for term in ("response", "video", "clip", "object", "token"))
    record = json.loads((output / MARKER).read_text())
    assert set(record["seconds"]) == {stage.name for stage in stages(output, 0)}
    assert all(shlex.split(command)[0] in ("vidpref", "python") for command in record["commands"])
    # No order of the methods is asserted: the demo is one seed, whatever it gives.
    said = {name: json.loads((output / name / SCORES).read_text()) for name in ("base", "dpo", "vista")}
    assert said["base"]["stated_usual"] > 0.9
    assert said["base"]["stated_counter"] < 0.5
    assert said["vista"] != said["dpo"] != said["base"]
    report = (output / "report.md").read_text()
    assert SAID_TITLE.format(seed=0) in report
    assert all(column in report for column in SAID.values())
    # One short fit is no study: that videos were sampled from both models is checked, not which are better.
    before, after = (score_folder(output / "dense" / "samples" / name) for name in ("base", "dense"))
    assert before.videos.keys() == after.videos.keys()
    assert before.videos != after.videos
    assert min(before.qualities.mean(), after.qualities.mean()) > 0.8
