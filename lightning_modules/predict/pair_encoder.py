"""Pairs of videos that were made elsewhere as pairs to train on: both videos' latents and the prompt's embedding."""

from __future__ import annotations

from torch import Tensor

from datamodules.dense.rows import PairRow, VideoRow
from datamodules.dense.video_pairs import VideoPairBatch
from datamodules.stream.predict_outputs import WrittenSample, json_bytes
from lightning_modules.predict.video_encoder import VideoEncoder, named, stored

#: Mean difference of two first frames, of 255 levels, up to which they are one image that was encoded twice.
SAME_IMAGE = 8.0


class PairEncoder(VideoEncoder):
    """`predict`: pairs of mp4s with their prompt -> pairs of kind imported, as samples of the schema vidpref/pairs.

    As of `VideoEncoder`, the transformer is never loaded, and each video passes the autoencoder by itself. Noise level
    and seeds of imported pairs are not known. A policy that starts from an image gets the first video's first frame,
    which the second must share.

    Args:
        policy: whose autoencoder and text encoder; a pair fits every policy of the same latent space.
        store_dtype: type of stored latents and embeddings; bfloat16 takes half the space.
    """

    schema = "vidpref/pairs"

    def predict_step(self, batch: VideoPairBatch, batch_idx: int) -> list[WrittenSample]:  # type: ignore[override]
        """One pair for each pair of the batch."""
        slots = zip(batch.rows, batch.first, batch.second, batch.contents, batch.mask.tolist(), strict=True)
        return [self._pair(row, (first, second), contents) for row, first, second, contents, real in slots if real]

    def _pair(self, row: VideoRow, videos: tuple[Tensor, Tensor], contents: tuple[bytes, bytes]) -> WrittenSample:
        with named(row.key):
            prompt = self._prompts.of(row.caption)
            # One by one, as a video of its own is encoded.
            first, second = (self.policy.encode_video([frames])[0] for frames in videos)
            condition = self.policy.condition(videos[0], row.video.fps)
            if condition.image is not None:
                require_same_image(videos[0][0], videos[1][0])
        pair = PairRow(
            key=row.key,
            video_id=row.video_id,
            prompt=row.caption,
            video=row.video,
            kind="imported",
            eta=None,
            seeds=None,
            latent_shape=tuple(first.shape),  # type: ignore[arg-type]
            latent_space=self.policy.latent_space,
            source=row.source,
            sampler={"scores": row.scores} if row.scores else {},
            prompt_shapes={name: tuple(stream.shape) for name, stream in prompt.items()},
            **condition.shapes(),
        )
        latents = {"first": first, "second": second} | condition.tensors()
        members = {
            "first.mp4": contents[0],
            "second.mp4": contents[1],
            "latents.safetensors": stored(latents, self.store_dtype),
            "prompt.safetensors": stored(prompt, self.store_dtype),
            "json": json_bytes(pair.to_json()),
        }
        return WrittenSample(row.key, members)


def require_same_image(first: Tensor, second: Tensor) -> None:
    """Refuse two videos that a model which starts from an image cannot both have made.

    Args:
        first: (3, H, W) uint8, the first frame of one.
        second: likewise, of the other.

    Raises:
        ValueError: they show different images.
    """
    difference = (first.float() - second.float()).abs().mean().item()
    if difference > SAME_IMAGE:
        raise ValueError(
            f"its videos begin with different frames ({difference:.0f} of 255 levels apart on average), but this "
            "policy starts from one image; take a text-to-video policy, or pairs made from one image"
        )
