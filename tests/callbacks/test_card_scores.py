"""Scores on a card belong to its weights; the licence on it is what the base itself says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file

from callbacks.base_licence import UNKNOWN, base_licence
from callbacks.card_scores import BenchmarkScore, benchmark_scores
from lightning_modules.file_contents import contents_of
from tests.support.hub_server import TOKEN, Repository, hub_server

ABOUT = {
    "benchmark": "VideoHallucer",
    "protocol": "published",
    "judge": "gpt",
    "limit": 10,
    "left_out": 2,
    "headlines": ["all/overall", "all/absent"],
    "intervals": {"level": 0.95, "of": {"all/overall": [0.4, 0.6], "all/basic": [0.1, 0.2]}},
}


def results(folder: Path, content: str | None, about: object = ABOUT) -> Path:
    """A finished benchmark's files, as measured with an adapter of some content."""
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"all": {"overall": 0.5, "basic": 0.15}, "about": about}))
    if content is not None:
        settings = {"policy": {"adapter": "x", "contents": {"path": "base", "adapter": content}}}
        (folder / "answers.settings.json").write_text(json.dumps(settings))
    return folder / "results.json"


def test_the_scores_of_an_export_are_those_of_its_weights(tmp_path: Path) -> None:
    export = tmp_path / "run/exports/last"
    export.mkdir(parents=True)
    (export / "adapter_model.safetensors").write_bytes(b"now")
    content = contents_of(SimpleNamespace(x=str(export)))["x"]
    results(tmp_path / "run/hallucer", content)
    former, unknown = results(tmp_path / "run/a", "0" * 64), results(tmp_path / "run/b", None)
    (export / "README.md").write_text("the card is no weight")
    scores, others = benchmark_scores(export, [tmp_path / "run"])
    how = "published; judge gpt; the first 10 questions only; 2 questions left out"
    assert scores == [BenchmarkScore("VideoHallucer", "all/overall", 0.5, (0.4, 0.6), 0.95, how)]
    assert others == [former, unknown]
    (export / "adapter_model.safetensors").write_bytes(b"new")
    assert benchmark_scores(export, [tmp_path / "run"])[0] == [], "measured before a further training"


@pytest.mark.parametrize("place", [("videos",), ("annotations", "videos")], ids=["VBench", "VisionReward"])
def test_scores_of_videos_are_of_the_weights_that_they_were_sampled_with(
    tmp_path: Path, place: tuple[str, ...]
) -> None:
    export = tmp_path / "exports/last"
    export.mkdir(parents=True)
    save_file({"a": torch.ones(2)}, export / "pytorch_lora_weights.safetensors", {"format": "pt", "more": "{}"})
    contents = contents_of(SimpleNamespace(path=str(tmp_path / "exports"), adapter=str(export)))
    for name, adapter in (("now", contents["adapter"]), ("before", "0" * 64)):
        made: dict[str, object] = {"made_from": {"policy": {"contents": contents | {"adapter": adapter}}}}
        for part in reversed(place):
            made = {part: made}
        results(tmp_path / name, None, ABOUT | {"benchmark": name} | made)
    scores, others = benchmark_scores(export, [tmp_path])
    assert [score.benchmark for score in scores] == ["now"]
    assert others == [tmp_path / "before/results.json"]


def test_results_that_are_no_json_are_named(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    results(tmp_path / "a", None).with_name("answers.settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"answers\.settings\.json is not JSON"):
        benchmark_scores(tmp_path / "export", [tmp_path / "a"])


def test_the_licence_is_what_the_base_says(tmp_path: Path) -> None:
    assert base_licence(str(tmp_path)) == UNKNOWN
    (tmp_path / "LICENSE").write_text("words")
    assert base_licence(str(tmp_path)) == "see LICENSE of the base"
    (tmp_path / "README.md").write_text("---\ntags: [a]\n---\n# no licence")
    assert base_licence(str(tmp_path)) == "see LICENSE of the base"
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: wan\n---\n")
    assert base_licence(str(tmp_path)) == "other (wan)"
    (tmp_path / "README.md").write_text("---\nlicense: [mit\n---\n")
    assert base_licence(str(tmp_path)) == "see LICENSE of the base", "a card that nobody can read"


def test_the_licence_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert base_licence("no-such-owner/base") == UNKNOWN
    with hub_server() as hub:
        hub.repositories["no-such-owner/base"] = Repository(card={"license": "apache-2.0"})
        api = HfApi(hub.endpoint, token=TOKEN)
        assert base_licence("no-such-owner/base", api) == "apache-2.0"
        assert base_licence("no-such-owner/other", api) == UNKNOWN
    assert base_licence("no-such-owner/base", api) == UNKNOWN, "no network"
