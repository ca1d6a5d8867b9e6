"""What the packets of a video tell before any of them is decoded: where something moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Packet(NamedTuple):
    """Packet of a video: a frame as it is stored.

    Attributes:
        time: when its frame is shown, in ticks of the stream; None = not said.
        key: whether it is decoded by itself.
        cut: whether an edit list cuts it away.
        size: in bytes.
    """

    time: int | None
    key: bool
    cut: bool
    size: int


def motion_sizes(packets: Sequence[Packet]) -> NDArray[np.int64] | None:
    """(T,) bytes by which each frame is larger than the smallest, in the order in which they are shown.

    An encoder of constant quality spends few bytes where nothing changes and many where much does, so sizes follow
    motion, changes of light and cuts. A key frame is stored whole: it takes the size of the next frame that is not. At
    a constant bit rate sizes differ less, and follow motion less.

    Returns:
        None where sizes tell nothing: fewer than two frames lean on others, or a frame's place is not known.
    """
    if any(packet.time is None or packet.cut for packet in packets) or len({p.time for p in packets}) != len(packets):
        return None
    # Packets are in the order of decoding, which is another where frames lean on later ones.
    shown = sorted(packets, key=lambda packet: packet.time or 0)
    sizes = np.array([packet.size for packet in shown], np.int64)
    leaning = np.flatnonzero([not packet.key for packet in shown])
    if len(leaning) < 2:
        return None
    following = np.searchsorted(leaning, np.arange(len(sizes)))
    motion: NDArray[np.int64] = sizes[leaning[np.minimum(following, len(leaning) - 1)]]
    # What every packet has, whatever it holds, would hide the motion of small pictures.
    motion -= motion.min()
    return motion
