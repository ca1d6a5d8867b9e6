"""An export made of a run's checkpoint, without the run's data, devices or callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, constants
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from callbacks.adapter_card import RunNumbers, complete_export
from callbacks.card_scores import benchmark_scores
from callbacks.cli.checkpoint_io import whole_checkpoint
from callbacks.cli.class_names import CONFIG_PACKAGES, import_config_classes
from callbacks.cli.former_names import current_class, current_key
from callbacks.cli.run_record import CONFIG_KEY
from callbacks.hub_upload import require_repository_name, upload
from callbacks.recovery import CHECKPOINTS
from datamodules.shards.files import replaced_folder
from datamodules.shards.output_lock import OutputLock
from lightning_modules.checkpoints import TRAINED_KEY, require_trained
from lightning_modules.preference import PreferenceModule


def export_run(
    run: str,
    checkpoint: str | None = None,
    output: str | None = None,
    push_to_hub: str | None = None,
    private: bool = False,
    commit_message: str | None = None,
) -> None:
    """Export what a checkpoint of a run holds: an adapter, or after full fine-tuning a model folder.

    Its card names the scores of those benchmarks whose results lie in the run's folder and were measured with these
    very weights, or on videos that were sampled with them. The model is built as the checkpoint says, on the CPU; paths
    in it are relative to the current folder, as they were for the run.

    Args:
        run: the run's folder (its trainer.default_root_dir), or a checkpoint file.
        checkpoint: the checkpoint file; by default checkpoints/last.ckpt in the run's folder.
        output: the folder to write, replaced when the new one is whole; by default exports/NAME in the run's folder,
            NAME being the checkpoint's.
        push_to_hub: also upload the export to this repository, OWNER/NAME, which is made if it is not there.
        private: with push_to_hub, make the repository private.
        commit_message: with push_to_hub, the message of the commit; by default method and optimizer step.

    Raises:
        ValueError: there is no such checkpoint, it is not whole, or does not say of what model it is; or the upload was
            refused.
        ConnectionError: the export is whole, but the hub cannot be reached.
    """
    if push_to_hub is not None:
        require_repository_name(push_to_hub)
    elif private or commit_message is not None:
        raise ValueError("--private and --commit_message are for an upload; give --push_to_hub OWNER/NAME, too")
    folder, path = _run_files(Path(run), checkpoint)
    with whole_checkpoint(path):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if CONFIG_KEY not in content or TRAINED_KEY not in content:
        raise ValueError(f"{path} was not written by `vidpref fit`, and does not say of what model it is")
    module = configured_module(content[CONFIG_KEY]["model"])
    if not isinstance(module, PreferenceModule):
        raise ValueError(f"{path} is of a {type(module).__name__}, which has no policy to export")
    policy: Any = module.policy
    policy.load()
    require_trained(content, module.trainable())
    module.load_state_dict(content["state_dict"], strict=False)
    target = Path(output) if output is not None else folder / "exports" / path.stem
    # A running fit holds the lock of the run's folder, and that of its own last export wherever it is.
    run_lock = OutputLock(folder, is_folder=True) if output is None else nullcontext()
    with run_lock, OutputLock(target), replaced_folder(target) as partial:
        policy.export(partial)
        scores, other_results = benchmark_scores(partial, [folder])
        # Looks up the licence of the base where the export is to be uploaded anyway.
        api = HfApi() if push_to_hub is not None and not constants.HF_HUB_OFFLINE else None
        complete_export(partial, module, RunNumbers.from_checkpoint(content), scores, api)
    print(f"exported: {target} (optimizer step {content['global_step']} of {path})")
    if other_results:
        print(f"not on the card, as not measured with these weights: {', '.join(map(str, other_results))}")
    if push_to_hub is not None:
        message = commit_message or f"{type(module).__name__}, optimizer step {content['global_step']}"
        upload(target, push_to_hub, private, message)


def _run_files(run: Path, checkpoint: str | None) -> tuple[Path, Path]:
    """The run's folder, and the checkpoint file of it that is exported."""
    folder, path = run, Path(checkpoint) if checkpoint is not None else None
    if path is None:
        path = run if run.is_file() else run / CHECKPOINTS / "last.ckpt"
    if run.is_file():
        folder = run.parent.parent if run.parent.name == CHECKPOINTS else run.parent
    if not path.is_file():
        others = ", ".join(str(file) for file in sorted(folder.rglob("*.ckpt"))[:5])
        raise ValueError(f"{path} is no file; give --checkpoint one of those of the run: {others or 'there are none'}")
    return folder, path


def configured_module(config: Mapping[str, Any]) -> LightningModule:
    """The module that a recorded ``model`` section describes, without weights."""
    import_config_classes(("lightning_modules",))
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    module: LightningModule = parser.instantiate_classes(parser.parse_object({"model": short_names(config)})).model
    return module


def short_names(config: Any, key: str = "model") -> Any:
    """A recorded configuration with this project's classes by their short names, and former names as they are now.

    Args:
        config: a section, or a value within it.
        key: its dotted key, without `init_args`.
    """
    if isinstance(config, list):
        return [short_names(item, key) for item in config]
    if not isinstance(config, Mapping):
        return config
    renamed: dict[str, Any] = {}
    for name, value in config.items():
        if name == "class_path":
            renamed[name] = current_class(value) if value.partition(".")[0] in CONFIG_PACKAGES else value
        elif name == "init_args":
            renamed[name] = short_names(value, key)
        else:
            current_name = current_key(f"{key}.{name}")
            renamed[current_name.rpartition(".")[2]] = short_names(value, current_name)
    return renamed
