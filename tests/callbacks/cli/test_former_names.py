"""A name of version 0.1.0 in a configuration is an unknown one whose message says what it is called now."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from callbacks.cli.config_errors import readable
from callbacks.cli.former_names import FORMER_KEYS, current_class, current_key
from callbacks.cli.run_record import CONFIG_KEY, checkpoint_differences
from callbacks.loss_weights import Constant, LossWeights
from tests.support.preference_fakes import make_module, make_trainer


@pytest.mark.parametrize(("former", "current"), FORMER_KEYS.items())
def test_an_unknown_key_names_its_successor(former: str, current: str) -> None:
    message = f"Option 'data.{former}' is not accepted"
    assert readable(message, ["data"]) == f"unknown key 'data.{former}'; it is now 'data.{current}'"
    assert current_key(current) == current


def test_an_unknown_class_names_its_successor() -> None:
    import datamodules.questions.video_hallucer  # noqa: F401 the class must be known

    message = 'Parser key "data":\n  Expected a dot import path string: Questions'
    assert readable(message) == "'data': no class is called 'Questions'; it is now 'VideoHallucerQuestions'"
    assert current_class("lightning_modules.policies.wan.WanPolicy") == "WanPolicy"


def test_a_former_term_names_its_successor() -> None:
    with pytest.raises(ValueError, match="'temporal' is now 'clip'"):
        LossWeights({"temporal": Constant(1.0)}).setup(make_trainer([]), make_module(), "fit")


def test_a_renamed_setting_is_no_difference_to_a_checkpoint(tmp_path: Path) -> None:
    stored = {
        "model": {
            "class_path": "lightning_modules.vista_dpo.VistaDPO",
            "init_args": {"relevant_weight": 0.7, "weights": {"temporal": 0.4}},
        },
        "data": {"class_path": "datamodules.vista_pairs.VistaPairs"},
    }
    torch.save({CONFIG_KEY: stored}, tmp_path / "a.ckpt")
    now = {
        "model": {
            "class_path": "lightning_modules.vista_dpo.VistaDPO",
            "init_args": {"rejected_weight": 0.7, "weights": {"clip": 0.5}},
        },
        "data": {"class_path": "datamodules.vista.vista_pairs.VistaPairs"},
    }
    differences = ["model.weights.clip: 0.4 in the checkpoint, 0.5 now"]
    assert checkpoint_differences(tmp_path / "a.ckpt", now) == differences
