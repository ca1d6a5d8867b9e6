import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from benchmarks.results import provenance, write_json


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_provenance_without_the_command_line_has_no_config() -> None:
    found = provenance(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))
    assert found["config"] is None
    assert {"torch", "transformers", "av"} <= set(found["versions"])
    assert found["devices"] == "1 x CPU"
