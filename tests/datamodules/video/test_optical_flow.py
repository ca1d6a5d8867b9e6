"""Optical flow on pictures that slide by a known number of pixels; RAFT with random weights given as a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules.video.optical_flow import DisFlow, OpticalFlow, RaftFlow, mean_motion, shrunk
from tests.support.moving_clips import sliding


@pytest.fixture(scope="module")
def raft_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "small.pth"
    torch.save(raft_small(weights=None).state_dict(), path)
    return str(path)


@pytest.mark.parametrize("step", [0, 1, 3])
def test_dis_finds_how_far_a_picture_slides(step: int) -> None:
    lengths = DisFlow().magnitudes(sliding(step, count=4))
    assert lengths.shape == (3, 64, 64)
    assert lengths.dtype == torch.float32
    assert lengths[:, 16:48, 16:48].mean().item() == pytest.approx(step, abs=0.15)


class _Shift:
    """Says that every pixel moves by the difference of the frames' first values."""

    def magnitudes(self, frames: Tensor) -> Tensor:
        steps = frames[:, 0, 0, 0].float().diff().abs()
        return steps[:, None, None].expand(-1, *frames.shape[-2:])


@pytest.mark.parametrize(("fps", "size"), [(8.0, (10, 20)), (24.0, (10, 20)), (24.0, (40, 20)), (4.0, (20, 20))])
def test_motion_is_in_shorter_sides_per_second_whatever_rate_and_size(fps: float, size: tuple[int, int]) -> None:
    per_second = 24
    values = (torch.arange(int(2 * fps) + 1) * per_second / fps).to(torch.uint8)
    frames = values[:, None, None, None].expand(-1, 3, *size)
    assert mean_motion(_Shift(), frames, fps) == pytest.approx(per_second / min(size))


def test_two_frames_are_enough_and_one_is_not() -> None:
    frames = torch.tensor([0, 2], dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 10, 10)
    assert mean_motion(_Shift(), frames, 30.0) == pytest.approx(6.0)
    with pytest.raises(ValueError, match="at least two"):
        mean_motion(_Shift(), frames[:1], 30.0)


def test_raft_takes_weights_from_a_file_and_any_size(raft_weights: str) -> None:
    from torchvision.models.optical_flow import raft_small

    frames = sliding(2, count=3, size=60)
    flow: OpticalFlow = RaftFlow(raft_weights, "small", num_updates=2)
    lengths = flow.magnitudes(frames)
    assert lengths.shape == (2, 60, 60)
    network = raft_small(weights=None).eval()
    network.load_state_dict(torch.load(raft_weights, weights_only=True))
    padded = torch.nn.functional.pad(frames.float() / 127.5 - 1, (0, 68, 0, 68), mode="replicate")
    with torch.no_grad():
        expected = network(padded[:-1], padded[1:], num_flow_updates=2)[-1].norm(dim=1)[:, :60, :60]
    torch.testing.assert_close(lengths, expected, rtol=1e-3, atol=1e-3)


def test_raft_refuses_what_are_no_weights_of_its_own(raft_weights: str, tmp_path: Path) -> None:
    frames = sliding(1, count=2)
    with pytest.raises(ValueError, match=r"'C_T_V9': no such file, and none of torchvision's raft_small \(C_T_V1, C_T"):
        RaftFlow("C_T_V9", "small").magnitudes(frames)
    with pytest.raises(ValueError, match=r"small\.pth: is not a state dict of raft_large"):
        RaftFlow(raft_weights, "large").magnitudes(frames)
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(ValueError, match="is not a state dict of raft_small"):
        RaftFlow(str(tmp_path / "text.pth"), "small").magnitudes(frames)
    with pytest.raises(ValueError, match="num_updates is 0"):
        RaftFlow(num_updates=0)


def test_smaller_frames_are_means_of_squares_of_pixels() -> None:
    frames = torch.arange(2 * 3 * 4 * 6, dtype=torch.uint8).view(2, 3, 4, 6)
    small = shrunk(frames, 2)
    assert small.shape == (2, 3, 2, 3)
    assert small[1, 2].tolist() == [[124, 126, 128], [136, 138, 140]]  # of 123.5 and so on
    assert shrunk(frames, 4).shape == (2, 3, 1, 1)
