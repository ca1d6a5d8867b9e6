"""The settings on a card are those that are not the defaults: no fewer, no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from callbacks.card_settings import changed_settings
from callbacks.cli.class_names import import_config_classes
from callbacks.secrets_in_text import without_secrets


def settings_of(model: dict[str, object]) -> dict[str, object]:
    import_config_classes(("lightning_modules",))
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    return changed_settings(parser, parser.parse_object({"model": model}))


def test_only_what_differs_from_the_defaults() -> None:
    policy = {"path": "a/b", "num_frames": 8, "lora": {"r": 64, "alpha": 32}}
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-5, "weight_decay": 0.5}}
    model = {
        "class_path": "VistaDPO",
        "init_args": {
            "policy": {"class_path": "VideoLlavaPolicy", "init_args": policy},
            "optimizer": optimizer,
            "beta": 0.1,
            "weights": {"response": 1.0, "video": 1.0, "clip": 0.4, "object": 0.2, "token": 0.0},
            "warmup": 12,
        },
    }
    assert settings_of(model) == {
        "model": "VistaDPO",
        "model.policy": "VideoLlavaPolicy",
        "model.policy.path": "a/b",
        "model.policy.lora.r": 64,  # alpha is 32 by default
        "model.optimizer": "AdamW",
        "model.optimizer.lr": 1e-5,
        "model.optimizer.weight_decay": 0.5,  # and not the betas, which YAML has as a list
        "model.weights.token": 0.0,
        "model.warmup": 12,
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "vidpref fit --model.judge.api_key abc123 --model.beta 0.2",
            "vidpref fit --model.judge.api_key *** --model.beta 0.2",
        ),
        ("--x.hf_token=abc", "--x.hf_token=***"),
        ("| trainer.logger.password | abc |", "| trainer.logger.password | *** |"),
        ("--data s3://user:pass@host/a.json", "--data s3://***@host/a.json"),
        ("https://host/a.tar?X-Amz-Signature=abc&b=c d", "https://host/a.tar?*** d"),
        ("hf_aaaaBBBBccccDDDD", "***"),
        ("--model.weights.token 0.1", "--model.weights.token 0.1"),
        ("What is the secret? A key.", "What is the secret? A key."),
        ("USER: <video>\n{question}? ASSISTANT:", "USER: <video>\n{question}? ASSISTANT:"),
    ],
)
def test_secrets_are_taken_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_the_values_of_secret_variables_are_taken_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_API_KEY", "correct-horse")
    monkeypatch.setenv("OTHER_KEY", "none")
    assert without_secrets(f"run correct-horse, none, {tmp_path}") == f"run ***, none, {tmp_path}"
