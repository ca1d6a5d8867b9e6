import json
import shlex
from pathlib import Path

import pytest

from benchmarks.toy.demo import MARKER, main, stages
from benchmarks.toy.motion_scores import score_folder


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_runs_and_both_methods_do_what_they_should(tmp_path: Path) -> None:
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
    assert all(shlex.split(command)[0] == "vidpref" for command in record["commands"])
    overall = {
        name: json.loads((output / name / "test" / "results.json").read_text())["all"]["accuracy"]
        for name in ("base", "dpo", "vista")
    }
    assert overall["vista"] > overall["base"]
    # One short fit is no study: that videos were sampled from both models is checked, not which are better.
    before, after = (score_folder(output / "dense" / "samples" / name) for name in ("base", "dense"))
    assert before.videos.keys() == after.videos.keys()
    assert before.videos != after.videos
    assert min(before.qualities.mean(), after.qualities.mean()) > 0.8
