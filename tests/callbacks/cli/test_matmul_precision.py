"""The precision of float32 matrices: by what the policy is, on a GPU alone, and as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from callbacks.cli.command_line import default_pieces
from callbacks.cli.matmul_precision import MatmulPrecision, Precision
from tests.callbacks.cli.test_command_line import GIVEN


@pytest.fixture(autouse=True)
def highest() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("given", "device", "dtype", "trainer", "expected"),
    [
        (None, "cuda", "bfloat16", "32-true", "high"),
        (None, "cuda", "float32", "bf16-mixed", "high"),
        (None, "cuda", "float32", "32-true", "highest"),
        (None, "cuda", None, "32-true", "highest"),
        ("highest", "cuda", "bfloat16", "32-true", "highest"),
        ("medium", "cuda", "float32", "32-true", "medium"),
        ("medium", "cpu", "bfloat16", "32-true", "highest"),
    ],
)
def test_the_precision_follows_the_policy_unless_given(
    given: Precision | None, device: str, dtype: str | None, trainer: str, expected: str
) -> None:
    run: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), precision=trainer)
    module: Any = SimpleNamespace() if dtype is None else SimpleNamespace(policy=SimpleNamespace(dtype=dtype))
    callback = MatmulPrecision(given)
    callback.setup(run, module, "fit")
    callback.setup(run, module, "validate")
    assert torch.get_float32_matmul_precision() == expected
    callback.teardown(run, module, "fit")
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("verb", ["fit", "predict"])
def test_the_command_line_adds_it_once(verb: str) -> None:
    def of(callbacks: list[Any]) -> list[MatmulPrecision]:
        made = default_pieces({**GIVEN, "callbacks": callbacks}, verb, Path("run"))["callbacks"]
        return [callback for callback in made if isinstance(callback, MatmulPrecision)]

    assert [callback.precision for callback in of([])] == [None]
    own = MatmulPrecision("highest")
    assert of([own]) == [own]
