"""Training of a small Wan autoencoder from scratch: what the toy world's latents are made with."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules.learning_rate import LearningRateSchedule, warmup_factor

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan


class VideoAutoencoder(LightningModule):
    """Autoencoder module: squared error of reconstruction plus a small KL term, exported with latent statistics.

    Args:
        path: a pipeline folder; its `vae` is trained, the rest is copied to ``<default_root_dir>/exports/last``.
        optimizer: makes the optimizer.
        kl_weight: of the mean KL divergence per latent number from a standard normal.
        schedule: the learning rate after warm-up.
        warmup: share of steps with rising learning rate.
        measured_batches: batches from which each latent channel's mean and standard deviation are measured at the end.
    """

    def __init__(
        self,
        path: str,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1.5e-3, weight_decay=0.0),
        kl_weight: float = 1e-5,
        schedule: LearningRateSchedule = "cosine",
        warmup: float = 0.05,
        measured_batches: int = 32,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.optimizer = optimizer
        self.kl_weight = kl_weight
        self.schedule = schedule
        self.warmup = warmup
        self.measured_batches = measured_batches
        self.vae: AutoencoderKLWan | None = None

    def configure_model(self) -> None:
        """Load the autoencoder's weights."""
        from diffusers import AutoencoderKLWan

        if self.vae is None:
            self.vae = AutoencoderKLWan.from_pretrained(self.path / "vae", trust_remote_code=False, dtype=torch.float32)

    def configure_optimizers(self) -> Any:
        """The given optimizer, with the learning-rate schedule in steps."""
        optimizer = self.optimizer(self.parameters())
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = LambdaLR(optimizer, lambda step: warmup_factor(step, total, self.warmup, self.schedule))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """One step on (B, 3, T, H, W) uint8 videos."""
        assert self.vae is not None
        videos = _scaled(batch)
        posterior = self.vae.encode(videos).latent_dist
        decoded = self.vae.decode(posterior.sample()).sample
        reconstruction = F.mse_loss(decoded, videos)
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1.0 - posterior.logvar).mean()
        loss: Tensor = reconstruction + self.kl_weight * kl
        parts = {"loss": loss, "loss/reconstruction": reconstruction, "loss/kl": kl}
        self.log_dict({f"train/{name}": value.detach() for name, value in parts.items()}, batch_size=len(batch))
        return loss

    def on_train_end(self) -> None:
        """Measure the latents and write the pipeline folder."""
        assert self.vae is not None
        self.vae.register_to_config(**self.statistics())
        if self.trainer.is_global_zero:
            target = Path(self.trainer.default_root_dir) / "exports" / "last"
            shutil.copytree(self.path, target, ignore=shutil.ignore_patterns("vae"), dirs_exist_ok=True)
            self.vae.save_pretrained(target / "vae")

    @torch.no_grad()
    def statistics(self) -> dict[str, list[float]]:
        """`latents_mean` and `latents_std` of each channel, of the posterior's mode over batches of training videos."""
        assert self.vae is not None
        batches = islice(iter(self.trainer.datamodule.train_dataloader()), self.measured_batches)  # type: ignore[attr-defined]
        latents = [self.vae.encode(_scaled(batch.to(self.device))).latent_dist.mode() for batch in batches]
        # float64: a sum over all latents of many batches.
        by_channel = torch.cat(latents).transpose(0, 1).flatten(1).double()
        return {"latents_mean": by_channel.mean(1).tolist(), "latents_std": by_channel.std(1).tolist()}


def _scaled(videos: Tensor) -> Tensor:
    """Uint8 pixels as the autoencoder takes them, -1 to 1."""
    # As the pipelines' own video processors scale: 0 to -1, 255 to 1.
    return videos.float() / 127.5 - 1.0
