"""No checkpoint's own code is ever run, whatever a terminal would answer."""

from __future__ import annotations

import ast
import builtins
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightning_modules.judges.local import LocalJudge
from lightning_modules.policies.flow_codec import FlowCodec
from lightning_modules.policies.hub_model import read_configuration
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.policies.wan import WAN_PARTS
from tests.support.paths import ROOT
from tests.support.tiny_video_llava import save_tiny_video_llava
from tests.support.tiny_wan import write_tiny_wan

PACKAGES = ("benchmarks", "callbacks", "datamodules", "lightning_modules")
#: Code that leaves a trace of itself.
CODE = """
from pathlib import Path
from transformers import PretrainedConfig, PreTrainedTokenizerFast

Path({marker!r}).write_text("ran")


class OwnConfig(PretrainedConfig):
    model_type = "own"


class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


def bring_code(folder: Path, file: str, marker: Path, **names: str) -> None:
    """Let a configuration file of a folder name classes of a module that lies beside it."""
    (folder / "own_code.py").write_text(CODE.format(marker=str(marker)))
    content = json.loads((folder / file).read_text())
    content |= {"auto_map": names}
    if file == "config.json":
        content |= {"model_type": "own"}
    else:
        content |= {"tokenizer_class": "OwnTokenizer"}
    (folder / file).write_text(json.dumps(content))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What transformers asks at a terminal; every answer is yes."""
    questions: list[str] = []

    def yes(question: str = "") -> str:
        questions.append(question)
        return "y"

    monkeypatch.setattr(builtins, "input", yes)
    return questions


def judge(path: str) -> None:
    LocalJudge(path).load(torch.device("cpu"))


@pytest.mark.parametrize(
    ("read", "file"), [(read_configuration, "config.json"), (judge, "processor_config.json")], ids=["policy", "judge"]
)
def test_a_configuration_with_code_of_its_own_is_refused(
    tmp_path: Path, asked: list[str], read: Callable[[str], object], file: str
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / file).write_text('{"processor_class": "OwnConfig"}')
    marker = tmp_path / "marker"
    bring_code(folder, file, marker, AutoConfig="own_code.OwnConfig", AutoProcessor="own_code.OwnConfig")
    with pytest.raises(ValueError, match="needs code that comes with it, and such code is never run"):
        read(str(folder))
    assert not marker.exists()
    assert asked == []


def test_a_tokenizer_with_code_of_its_own_does_not_run_it(tmp_path: Path, asked: list[str]) -> None:
    folder, marker = write_tiny_wan(tmp_path / "wan"), tmp_path / "marker"
    codec = FlowCodec(str(folder), WAN_PARTS, "float32", 8)
    bring_code(folder / "tokenizer", "tokenizer_config.json", marker, AutoTokenizer="own_code.OwnTokenizer")
    with pytest.raises(ValueError, match="custom code"):
        codec.embed(["a red square"], torch.device("cpu"))
    assert not marker.exists()
    assert asked == []


def test_a_processor_with_code_of_its_own_does_not_run_it(tmp_path: Path, asked: list[str]) -> None:
    folder, marker = Path(save_tiny_video_llava(tmp_path / "tiny")), tmp_path / "marker"
    bring_code(folder, "processor_config.json", marker, AutoProcessor="own_code.OwnConfig")
    policy = VideoLlavaPolicy(str(folder))
    policy.load()
    assert not marker.exists()
    assert asked == []


def test_every_call_of_from_pretrained_forbids_it() -> None:
    calls = [
        (f"{path.relative_to(ROOT)}:{node.lineno}", {keyword.arg: keyword.value for keyword in node.keywords})
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained"
    ]
    assert len(calls) >= 18
    allowed = [
        place
        for place, given in calls
        if not (isinstance(trusted := given.get("trust_remote_code"), ast.Constant) and trusted.value is False)
    ]
    assert allowed == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "names", "refused"),
    [
        ("config.json", {"AutoConfig": "own_code.OwnConfig"}, True),
        ("tokenizer_config.json", {"AutoTokenizer": "own_code.OwnTokenizer"}, True),
        # The processor of the known model type is there without the folder's code.
        ("processor_config.json", {"AutoProcessor": "own_code.OwnConfig"}, False),
    ],
    ids=["model", "tokenizer", "processor"],
)
def test_at_a_terminal_nobody_is_asked_and_no_code_runs(
    tmp_path: Path, file: str, names: dict[str, str], refused: bool
) -> None:
    video = ROOT / "tests/data/cases/videos/ok.mp4"
    folder, marker = Path(save_tiny_video_llava(tmp_path / "tiny")), tmp_path / "marker"
    bring_code(folder, file, marker, **names)
    master, terminal = os.openpty()
    os.write(master, b"y\ny\ny\n")  # whoever asks gets a yes
    done = subprocess.run(
        [sys.executable, "-m", "vidpref", "ask", "--policy", str(folder), str(video), "What is it?"],
        stdin=terminal, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=240, check=False,
    )  # fmt: skip
    os.close(terminal)
    os.close(master)
    assert done.returncode == int(refused), done.stdout + done.stderr
    assert ("such code is never run; give a checkpoint of a known model type" in done.stderr) == refused
    assert "trust_remote_code" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "[y/N]" not in done.stdout + done.stderr
    assert not marker.exists()
