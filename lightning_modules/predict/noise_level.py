"""The noise level that a guided pair starts from: fixed, drawn from a range, or chosen by the video's own motion."""

from __future__ import annotations

from torch import Tensor

from datamodules.stream.draws import generator
from datamodules.video.optical_flow import OpticalFlow, mean_motion
from lightning_modules.policy_loading import policy_settings, settings_and_contents


class MotionAdaptiveEta:
    """Noise level by optical flow: less noise for fast videos, more for slow ones.

    The paper draws eta from one range for all videos and names that a limitation: with much noise the pair of a fast
    video loses its motion, with little noise that of a slow one hardly differs (its figure 3 finds that slow motion
    bears 0.85). Between the two thresholds eta falls evenly; both are our choice.

    Args:
        flow: measures the motion.
        slow: eta for motion of `slow_motion` and below.
        fast: eta for motion of `fast_motion` and above.
        slow_motion: see `mean_motion`, in shorter sides of the frame per second.
        fast_motion: likewise.
    """

    def __init__(
        self,
        flow: OpticalFlow,
        slow: float = 0.85,
        fast: float = 0.65,
        slow_motion: float = 0.02,
        fast_motion: float = 0.2,
    ) -> None:
        if not 0 < fast <= slow <= 1:
            raise ValueError(f"eta of fast motion {fast} and of slow motion {slow}: give 0 < fast <= slow <= 1")
        if not 0 <= slow_motion < fast_motion:
            raise ValueError(f"slow_motion {slow_motion} must be below fast_motion {fast_motion}, and neither negative")
        self.flow = flow
        self.slow = slow
        self.fast = fast
        self.slow_motion = slow_motion
        self.fast_motion = fast_motion

    def level(self, frames: Tensor, fps: float) -> float:
        """The noise level for a video of (T, 3, H, W) uint8 frames at `fps`."""
        motion = mean_motion(self.flow, frames.cpu(), fps)
        # Clamped below: beyond the thresholds eta stays at its ends.
        share = (motion - self.slow_motion) / (self.fast_motion - self.slow_motion)
        return self.slow + (self.fast - self.slow) * min(max(share, 0.0), 1.0)


Eta = float | tuple[float, float] | MotionAdaptiveEta


def check_eta(eta: Eta) -> None:
    """Refuse what is no noise level and no range of them."""
    if isinstance(eta, MotionAdaptiveEta):
        return
    low, high = eta if isinstance(eta, tuple) else (eta, eta)
    if not 0 < low <= high <= 1:
        raise ValueError(f"eta {eta} is no noise level in (0, 1], nor a range of them; the paper's is [0.65, 0.8]")


def highest(eta: Eta) -> float:
    """The highest level that can come out."""
    if isinstance(eta, MotionAdaptiveEta):
        return eta.slow
    return eta[1] if isinstance(eta, tuple) else eta


def noise_level(eta: Eta, seed: int, key: str, frames: Tensor, fps: float) -> float:
    """One level for both videos of a pair; from a range it is drawn by (seed, key).

    Args:
        eta: the number, the range, or the rule.
        seed: the run's.
        key: the sample's.
        frames: (T, 3, H, W) uint8.
        fps: frames per second.

    Raises:
        ValueError: a rule is to see motion in one frame; names the sample.
    """
    if isinstance(eta, MotionAdaptiveEta):
        if len(frames) < 2:
            raise ValueError(f"sample {key!r} has one frame and so no motion; leave it out, or give eta as a number")
        return eta.level(frames, fps)
    if isinstance(eta, tuple):
        # By the key alone: the level depends on no other sample, and an interrupted run draws the same.
        return eta[0] + (eta[1] - eta[0]) * float(generator(seed, key, "eta").random())
    return eta


def described(eta: Eta) -> object:
    """The setting in plain JSON types."""
    if isinstance(eta, MotionAdaptiveEta):
        # Where the flow runs is no part of it: an interrupted run may go on elsewhere.
        flow = {name: value for name, value in settings_and_contents(eta.flow).items() if name != "device"}
        return {**policy_settings(eta), "flow": flow}
    return list(eta) if isinstance(eta, tuple) else eta
