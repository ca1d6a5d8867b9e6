"""Which weights a network was loaded from: their identity beside the published ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from datamodules.shards.scan import file_sha256
from lightning_modules.run_facts import installed_version


def identity(model: str) -> dict[str, str]:
    """What identifies weights: the sha256 of a file or folder, or a hub id with its revision.

    Raises:
        ValueError: neither a path nor a model of the hub.
    """
    path = Path(model)
    if path.exists():
        return {"path": model, "sha256": _sha256(path)}
    from transformers import AutoConfig

    try:
        # The configuration alone: it knows its commit, and no weights have to come for that.
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{model}: no such file or folder, and no model of the hub ({str(error)[:200]})") from error
    return {"id": model, "revision": str(getattr(config, "_commit_hash", None))}


def require_model(folder: Path) -> None:
    """Raise a ValueError where a folder lacks what transformers loads a model from; a file or a hub id passes."""
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
        has_weights = any(name.endswith((".safetensors", ".bin")) for name in names)
        if "config.json" not in names or not has_weights:
            raise ValueError(f"{folder}: holds no {'weights' if 'config.json' in names else 'config.json'} of a model")


def weights_differ(weights: Mapping[str, str], published: str, sha256: str = "") -> list[str]:
    """How weights differ from the published ones, as lines for the results; empty where they are the same.

    A file or folder counts as published by its hash alone; a copy that was saved again has another one.

    Args:
        weights: their `identity`.
        published: the id or the file's name of the published ones.
        sha256: how their hash begins; "" = not known.
    """
    if "path" not in weights:
        return [] if weights["id"] == published else [f"{weights['id']} in place of {published}"]
    verified = sha256 and weights["sha256"].startswith(sha256)
    return [] if verified else [f"weights from {weights['path']}, not verified to be {published}"]


def _sha256(path: Path) -> str:
    """A file's own hash; of a folder with several files, that of their names and hashes."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    hashes = [file_sha256(file) for file in files]
    # A folder around one file is known by that file's own hash, which is the published one.
    if len(files) == 1:
        return hashes[0]
    lines = [f"{file.name} {sha256}" for file, sha256 in zip(files, hashes, strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def package_versions() -> dict[str, str | None]:
    """Versions of packages that move VBench's numbers, besides those that every run records; None = not installed."""
    return {name: installed_version(name) for name in ("opencv-python-headless", "pyiqa")}
