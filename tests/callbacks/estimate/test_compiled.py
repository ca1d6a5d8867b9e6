"""Compiled blocks: counted as they run uncompiled."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from callbacks.estimate.estimator import Estimator
from tests.callbacks.estimate.test_step import SIZES, dense


@pytest.mark.slow
def test_compiled_blocks_are_the_eager_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_nothing(self: torch.nn.Module) -> None:
        raise AssertionError("an estimate compiles nothing")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_nothing)
    module = dense(compile="blocks")
    compiled, eager = (Estimator(each, None, "adapter").cost(SIZES) for each in (module, dense()))
    assert asdict(compiled) == asdict(eager)
    assert module.policy.compiled == "blocks"  # the run's own stays as it is
