import json
import shlex
from pathlib import Path

import pytest

from benchmarks.demo import MARKER, main, stages


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_runs_and_vista_dpo_hallucinates_less_than_the_base(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    assert main(["--output", str(output), "--seed", "0"]) == 0
    page = (output / "report.html").read_text()
    for told in ("VistaDPO on the toy world, seed 0", "data:image/png;base64,", "<svg", "reward accuracy"):
        assert told in page
    assert all(term in page for term in ("response", "video", "temporal", "object", "token"))
    record = json.loads((output / MARKER).read_text())
    assert set(record["seconds"]) == {stage.name for stage in stages(output, 0)}
    assert all(shlex.split(command)[0] == "vidpref" for command in record["commands"])
    overall = {
        name: json.loads((output / name / "test" / "results.json").read_text())["all"]["accuracy"]
        for name in ("base", "dpo", "vista")
    }
    assert overall["vista"] > overall["base"]
