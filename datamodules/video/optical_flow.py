"""How far pixels move from frame to frame (OpenCV's DIS or torchvision's RAFT), and how much a video moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

#: The frames a second at which motion is measured, as VBench does: closer neighbours cost more and tell little more.
MEASURED_FPS = 8.0


class OpticalFlow(Protocol):
    """Optical flow method: how far each pixel moves."""

    def magnitudes(self, frames: Tensor) -> Tensor:
        """Length of the optical flow between neighbouring frames.

        Args:
            frames: (T, 3, H, W) uint8, at least two.

        Returns:
            (T - 1, H, W) float32 on the CPU, in pixels; row i is from frame i to frame i + 1.
        """


def mean_motion(
    flow: OpticalFlow, frames: Tensor, fps: float, measured_fps: float = MEASURED_FPS, shrink: int = 1
) -> float:
    """How much a video moves: the mean flow magnitude, in shorter sides of the frame per second.

    The unit makes the number independent of resolution and rate: 0.1 means that the average pixel crosses the shorter
    side in ten seconds. A moving camera counts like moving things.

    Args:
        flow: what measures it.
        frames: (T, 3, H, W) uint8, at least two.
        fps: frames per second of `frames`.
        measured_fps: frames in between are left out down to about this rate.
        shrink: the flow is measured on frames of sides shorter by this.

    Raises:
        ValueError: fewer than two frames.
    """
    if len(frames) < 2:
        raise ValueError("motion is measured between neighbouring frames: give at least two")
    # At least two frames are left, however short the video is.
    step = min(max(1, round(fps / measured_fps)), len(frames) - 1)
    measured = frames[::step] if shrink == 1 else shrunk(frames[::step], shrink)
    pixels = flow.magnitudes(measured).mean().item()
    return pixels / min(measured.shape[-2:]) * fps / step


def shrunk(frames: Tensor, shrink: int) -> Tensor:
    """Frames of shorter sides: means of squares of pixels; what is over at the right and bottom is left out.

    Args:
        frames: (T, 3, H, W) uint8.
        shrink: pixels on a side of a square.

    Returns:
        (T, 3, H // shrink, W // shrink) uint8.
    """
    import cv2

    height, width = (side // shrink for side in frames.shape[-2:])
    small = np.empty((len(frames), 3, height, width), dtype=np.uint8)
    for place, frame in enumerate(frames[..., : height * shrink, : width * shrink].numpy()):
        for channel, plane in enumerate(frame):
            small[place, channel] = cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small)


class DisFlow(OpticalFlow):
    """Dense inverse search (Kroeger et al. 2016) of OpenCV: fast on a CPU, needs no weights.

    Args:
        preset: speed against accuracy.
    """

    def __init__(self, preset: Literal["ultrafast", "fast", "medium"] = "medium") -> None:
        self.preset = preset

    def magnitudes(self, frames: Tensor) -> Tensor:
        """(T - 1, H, W) float32, see `OpticalFlow`."""
        import cv2

        method = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOpticalFlow_PRESET_{self.preset.upper()}"))
        colour = frames.cpu().permute(0, 2, 3, 1).numpy()
        grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in colour]
        lengths = np.empty((len(grey) - 1, *grey[0].shape), dtype=np.float32)
        for index in range(len(lengths)):
            lengths[index] = np.linalg.norm(method.calc(grey[index], grey[index + 1], None), axis=-1)
        return torch.from_numpy(lengths)


class RaftFlow(OpticalFlow):
    """RAFT (Teed and Deng 2020) of torchvision: more accurate than DIS, meant for a GPU.

    Args:
        weights: a file with the model's state dict, or one of torchvision's names ("C_T_SKHT_V2" for the large model,
            "C_T_V2" for the small one), which it downloads; None = its default for this model.
        model: which of the two.
        num_updates: refinements of the flow.
        device: where it runs.
    """

    #: The correlation pyramid needs sides of at least 128 pixels, in steps of 8.
    _SIDE, _STEP = 128, 8

    def __init__(
        self,
        weights: str | None = None,
        model: Literal["large", "small"] = "large",
        num_updates: int = 12,
        device: str = "cpu",
    ) -> None:
        if num_updates < 1:
            raise ValueError(f"num_updates is {num_updates}; give 1 or more")
        self.weights = weights
        self.model = model
        self.num_updates = num_updates
        self.device = device
        self._network: Any = None

    @torch.no_grad()
    def magnitudes(self, frames: Tensor) -> Tensor:
        """(T - 1, H, W) float32, see `OpticalFlow`; a pair at a time, so that memory does not grow with T."""
        if self._network is None:
            self._network = self._load()
        height, width = frames.shape[-2:]
        lengths = torch.empty(len(frames) - 1, height, width)
        first = self._prepared(frames[0])
        for index in range(len(lengths)):
            second = self._prepared(frames[index + 1])
            # The last refinement, cut back to the frame from what was continued beyond its borders.
            flow = self._network(first, second, num_flow_updates=self.num_updates)[-1][0]
            lengths[index] = flow[:, :height, :width].norm(dim=0).cpu()
            first = second
        return lengths

    def _prepared(self, frame: Tensor) -> Tensor:
        """(1, 3, H', W') in [-1, 1], continued at the right and bottom up to a size that the network takes."""
        pixels = frame.to(self.device, torch.float32)[None] / 127.5 - 1
        height, width = frame.shape[-2:]
        right, bottom = (max(self._SIDE, -(-side // self._STEP) * self._STEP) - side for side in (width, height))
        return F.pad(pixels, (0, right, 0, bottom), mode="replicate")

    def _load(self) -> Any:
        from torchvision.models import get_model, get_model_weights  # type: ignore[import-untyped]

        name = f"raft_{self.model}"
        known = get_model_weights(name)
        if self.weights is None or self.weights in known.__members__:
            return get_model(name, weights=self.weights or "DEFAULT", progress=False).eval().to(self.device)
        if not Path(self.weights).is_file():
            names = ", ".join(known.__members__)
            raise ValueError(f"weights {self.weights!r}: no such file, and none of torchvision's {name} ({names})")
        network = get_model(name, weights=None)
        try:
            network.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True))
        except Exception as error:  # unpickling, a tensor instead of a dict, other layers: all mean another file
            raise ValueError(f"{self.weights}: is not a state dict of {name} ({str(error)[:200]})") from error
        return network.eval().to(self.device)
