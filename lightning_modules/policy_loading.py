"""What every module with a policy does with it before its first step: load it, sharded or not, and describe it."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy

from datamodules.shards.index import digest
from datamodules.stream.predict_outputs import CONTENTS
from lightning_modules.file_contents import FileHash, contents_of, file_hash, with_hashes_of_bytes
from lightning_modules.policies.sharding import load_sharded


def load_policy(module: LightningModule, policy: Any) -> None:
    """Load the weights of the module's policy, or of a copy of it; under FSDP2, sharded from the start.

    Args:
        module: the module in its trainer.
        policy: a `VideoLLM` or `VideoFlow`, of which the constructor has read the configuration only.
    """
    strategy = module.trainer.strategy
    if isinstance(strategy, ModelParallelStrategy):
        assert module.device_mesh is not None
        mesh = getattr(strategy, "policy_mesh", None) or module.device_mesh["data_parallel"]
        load_sharded(policy, mesh, getattr(strategy, "mixed_precision", None))
    else:
        policy.load()


def policy_settings(policy: Any, nested: bool = True) -> dict[str, Any]:
    """A policy's class and plain settings in JSON types, for people who find later what it has made.

    Args:
        policy: whose plain attributes are its settings.
        nested: with the settings that are dataclasses; they say how an adapter would be made and trained, which moves
            no answer and no reference.
    """
    # Without `training`: torch's own switch, which a validation turns, is no setting.
    settings = {
        name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in vars(policy).items()
        if not name.startswith("_")
        and name != "training"
        and (isinstance(value, bool | int | float | str) or (nested and is_dataclass(value)))
    }
    return {"class": type(policy).__qualname__, **settings}


def settings_and_contents(policy: Any, nested: bool = True) -> dict[str, Any]:
    """A policy's settings, and the content of the files that it is loaded from: what its outputs are made from."""
    return {**policy_settings(policy, nested), CONTENTS: contents_of(policy)}


def weights_of(policy: Any) -> dict[str, Any]:
    """A hash of the trained weights that a policy starts from, for each of its folders that is local.

    A path alone does not tell that a later training has written other weights under the same name. As `contents_of`,
    they are of what the files hold.
    """
    hashes = {}
    for name in ("adapter", "weights"):
        folder = getattr(policy, name, None)
        files = sorted(Path(folder).glob("*.safetensors")) if isinstance(folder, str) else []
        if files:
            contents, of_bytes = zip(*map(file_hash, files), strict=True)
            hashes[name] = FileHash(digest("".join(contents).encode()), digest("".join(of_bytes).encode()))
    return with_hashes_of_bytes(hashes)
