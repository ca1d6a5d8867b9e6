"""Two ranks that meet at a store of the test's own process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback
from torch.distributed import TCPStore

from callbacks.cli.verbs.trainer import leave_process_group


class LeaveGroup(Callback):
    """Ends the process group in order, as the command does; named last, since no callback behind it has a group.

    Lightning leaves a spawned rank's group to the interpreter's end, where one whose peer is gone can crash its
    process, and with it the test.
    """

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """All ranks are here."""
        leave_process_group()


@contextmanager
def own_store() -> Iterator[dict[str, str]]:
    """Environment of ranks that meet at a store of this process.

    A free port that is chosen beforehand is listened on when rank 0 has imported everything, which is seconds or
    minutes later: by then it can be another program's. The store here listens from the beginning.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    # As torch's own launcher says that the store is its own.
    yield {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}


@contextmanager
def two_ranks() -> Iterator[dict[str, Any]]:
    """Trainer settings of two spawned ranks, which meet at a store of this process."""
    with own_store() as environment:
        os.environ |= environment  # the fixture `_environment` takes it back
        yield {"strategy": "ddp_spawn", "devices": 2, "use_distributed_sampler": False}
