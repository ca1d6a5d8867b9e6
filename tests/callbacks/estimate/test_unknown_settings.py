"""Settings of which an estimate knows nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import pytest

from callbacks.estimate.assemble import assemble
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies.wan import WanPolicy
from tests.support.tiny_wan import write_tiny_wan
from tests.support.wan_cases import LORA


def test_compiled_blocks_are_refused(tmp_path: Path) -> None:
    module = DenseDPO(WanPolicy(str(write_tiny_wan(tmp_path)), lora=LORA, compile="blocks"))
    line = SimpleNamespace(model=module, datamodule=None, settings={"trainer": {}})
    with pytest.raises(ValueError, match=r"no compiled blocks, .* leave policy.compile out"):
        assemble(line, argparse.Namespace(), [])
