"""Frame interpolation, for VBench's motion smoothness, and facts about optical flow, for its dynamic degree."""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.vbench.weights import identity, weights_differ
from datamodules.video.optical_flow import DisFlow, OpticalFlow, RaftFlow

#: raft-things as torchvision ports it, how that file's sha256 begins, and the refinements of the published script.
RAFT_MODEL, RAFT_WEIGHTS, RAFT_SHA256, RAFT_UPDATES = "large", "C_T_V1", "22a6c225", 20


class Interpolation(nn.Module, ABC):
    """Frame interpolation: two frames in, the one in the middle of them out."""

    #: Whether it runs where frames are decoded, in the loader's workers, because it needs no network.
    light = False

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """As `FrameNetwork.facts`."""

    @abstractmethod
    def load(self) -> None:
        """Read the weights, once."""

    @abstractmethod
    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """The (3, H, W) uint8 frame between two such frames."""


class BlendInterpolation(Interpolation):
    """The mean of both frames: needs no weights, and is a proxy.

    It blurs whatever moves, so that its smoothness falls with motion much more than AMT's.
    """

    light = True

    def facts(self) -> dict[str, Any]:
        """A proxy."""
        return {
            "network": "mean of two frames",
            "weights": None,
            "proxy": True,
            "differs": ["a blend in place of AMT-S"],
        }

    def load(self) -> None:
        """Nothing: there are no weights."""

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """(3, H, W) uint8, rounded down."""
        # int16: the sum of two uint8 would wrap.
        return ((before.to(torch.int16) + after.to(torch.int16)) // 2).to(torch.uint8)


class AmtInterpolation(Interpolation):
    """AMT-S, which VBench measures smoothness with. Neither code nor weights are free for commercial use.

    Args:
        code: a clone of github.com/MCG-NKU/AMT, whose Python code is run: a folder that you trust.
        weights: ``amt-s.pth`` of the model lalala125/AMT on the Hugging Face hub.
    """

    #: The sides that the network takes are multiples of this.
    _STEP = 16

    def __init__(self, code: str, weights: str) -> None:
        super().__init__()
        self.code, self.weights = Path(code), Path(weights)

    def facts(self) -> dict[str, Any]:
        """With the hash of the weights; of the code only that it exists.

        Raises:
            ValueError: there is no such clone, or no such file.
        """
        if not (self.code / "networks" / "AMT-S.py").is_file():
            raise ValueError(f"{self.code}: no networks/AMT-S.py in it; give a clone of github.com/MCG-NKU/AMT")
        if not self.weights.is_file():
            raise ValueError(f"{self.weights}: no such file; give the weights of AMT-S")
        weights = identity(str(self.weights))
        differs = weights_differ(weights, "amt-s.pth of lalala125/AMT")
        return {"network": "AMT-S", "weights": weights, "proxy": False, "differs": differs}

    def load(self) -> None:
        """Import the network's code and read its weights.

        Raises:
            ValueError: the weights are of something else.
        """
        with _importable(self.code):
            network: nn.Module = importlib.import_module("networks.AMT-S").Model()
        try:
            network.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True)["state_dict"])
        except Exception as error:  # unpickling, no dict, other layers: all mean another file
            raise ValueError(f"{self.weights}: is no checkpoint of AMT-S ({str(error)[:200]})") from error
        self.network = network.eval()

    @torch.no_grad()
    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """(3, H, W) uint8, rounded down as published."""
        height, width = before.shape[-2:]
        padding = centred(height, width, self._STEP)
        first, second = (F.pad(frame[None] / 255.0, padding, mode="replicate") for frame in (before, after))
        middle = torch.full((1, 1, 1, 1), 0.5, device=before.device)
        between: Tensor = self.network(first, second, middle, scale_factor=1.0, eval=True)["imgt_pred"][0]
        left, _, top, _ = padding
        return (between[:, top : top + height, left : left + width] * 255.0).clamp(0, 255).to(torch.uint8)


def centred(height: int, width: int, step: int) -> tuple[int, int, int, int]:
    """Padding (left, right, top, bottom) up to multiples of `step`, the image in the middle."""
    across, down = -width % step, -height % step
    return across // 2, across - across // 2, down // 2, down - down // 2


def flow_facts(flow: OpticalFlow) -> dict[str, Any]:
    """Which optical flow it is, as `FrameNetwork.facts`.

    Raises:
        ValueError: RAFT's weights are neither a file nor one of torchvision's names.
    """
    if isinstance(flow, RaftFlow):
        weights = _raft_weights(flow)
        differs = weights_differ(weights, f"torchvision {RAFT_WEIGHTS}", RAFT_SHA256)
        if (flow.model, flow.num_updates) != (RAFT_MODEL, RAFT_UPDATES):
            size = f"{flow.model} with {flow.num_updates} updates"
            differs = [f"RAFT {size} in place of {RAFT_MODEL} with {RAFT_UPDATES}", *differs]
        return {
            "network": f"RAFT {flow.model}",
            "weights": {**weights, "num_updates": flow.num_updates},
            "proxy": False,
            "differs": differs,
        }
    name = f"OpenCV DIS {flow.preset}" if isinstance(flow, DisFlow) else type(flow).__name__
    return {"network": name, "weights": None, "proxy": True, "differs": [f"{name} in place of RAFT"]}


def _raft_weights(flow: RaftFlow) -> dict[str, str]:
    """A file's hash, or the address of torchvision's weights, whose file name ends with the hash."""
    from torchvision.models import get_model_weights  # type: ignore[import-untyped]

    known = get_model_weights(f"raft_{flow.model}")
    if flow.weights is not None and flow.weights not in known.__members__:
        if not Path(flow.weights).is_file():
            names = ", ".join(known.__members__)
            raise ValueError(f"{flow.weights}: no such file, and none of torchvision's weights of RAFT ({names})")
        return identity(flow.weights)
    chosen = known["DEFAULT" if flow.weights is None else flow.weights]
    return {"id": f"torchvision {chosen.name}", "url": chosen.url}


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """While it is entered, imports find the packages of this folder first.

    Afterwards none of its modules is left in `sys.modules`: other projects have a package "utils", too.
    """
    names = ("networks", "utils")
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in names}
    for name in before:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] in names]:
            del sys.modules[name]
        sys.modules.update(before)
