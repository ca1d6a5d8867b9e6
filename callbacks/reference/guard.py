"""Notices when the reference moves: it should not, and a loss that compares with a moving one looks healthy."""

from __future__ import annotations

from typing import Any

from callbacks.reference.probes import PROBES, Probe, Said, Score, probe_of


class Guard:
    """Keeps a small batch of one sample, and what the reference said of it."""

    def __init__(self) -> None:
        self._probe: Probe[Any] | None = None
        self._said: Said | None = None

    @property
    def watching(self) -> bool:
        """Whether it has a sample."""
        return self._probe is not None

    def watch(self, batch: Any, score: Score) -> None:
        """Keep a sample of this batch. Every rank finds one in its batch, so all ranks run the same forwards."""
        self._probe = probe_of(batch).thinned()
        self.remember(score)

    def remember(self, score: Score) -> None:
        """Take what the reference says now for right; before `watch` there is nothing to ask."""
        if self._probe is not None:
            self._said = score(self._probe)

    def look(self, score: Score, tolerance: float) -> None:
        """Ask the reference again; before `watch` there is nothing to ask.

        Args:
            score: scores a probe with the reference.
            tolerance: by how much a score may differ, see `Probe.difference`.

        Raises:
            ValueError: one differs by more; names the sample, what was scored and the difference.
        """
        if self._probe is not None and self._said is not None:
            found = self._probe.difference(self._said, score(self._probe), tolerance)
            if found:
                raise ValueError(
                    f"the reference moved, though it was not refreshed: {found}. Something trains that the reference "
                    "shares with the policy, or the run was resumed with other starting weights"
                )

    def state(self) -> dict[str, Any]:
        """What is kept, as plain types and tensors; empty before `watch`."""
        if self._probe is None or self._said is None:
            return {}
        kind = type(self._probe).__name__
        return {"kind": kind, "key": self._probe.key, **self._probe.state(), "said": dict(self._said)}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        if state:
            kinds = {kind.__name__: kind for kind in PROBES.values()}
            self._probe, self._said = kinds[state["kind"]].load(state), state["said"]
