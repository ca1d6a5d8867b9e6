"""The guard against a reference that moves: it should not, and a loss that compares with a moving one looks healthy."""

from __future__ import annotations

from typing import Any

from callbacks.reference.probes import PROBES, Probe, ProbeScores, Score, probe_of


class Guard:
    """Watch on the reference: a small batch of one sample, and the scores that the reference gave it."""

    def __init__(self) -> None:
        self._probe: Probe[Any] | None = None
        self._expected: ProbeScores | None = None

    @property
    def watching(self) -> bool:
        """Whether it has a sample."""
        return self._probe is not None

    def watch(self, batch: Any, score: Score) -> None:
        """Keep a sample of this batch. Every rank takes one of its own, so all ranks run the same forwards."""
        self._probe = probe_of(batch).thinned()
        self.remember(score)

    def remember(self, score: Score) -> None:
        """Expect the reference's present scores from now on; before `watch` there are none."""
        if self._probe is not None:
            self._expected = score(self._probe)

    def check(self, score: Score, tolerance: float) -> None:
        """Score the sample again, and compare; before `watch` there is none.

        Args:
            score: scores a probe with the reference.
            tolerance: by how much a score may differ, see `Probe.difference`.

        Raises:
            ValueError: one differs by more; names the sample, what was scored and the difference.
        """
        if self._probe is not None and self._expected is not None:
            difference = self._probe.difference(self._expected, score(self._probe), tolerance)
            if difference:
                raise ValueError(
                    f"the reference moved, though it was not refreshed: {difference}. Something trains that the "
                    "reference shares with the policy, or the run was resumed with other starting weights"
                )

    def state(self) -> dict[str, Any]:
        """What is kept, as plain types and tensors; empty before `watch`."""
        if self._probe is None or self._expected is None:
            return {}
        kind = type(self._probe).__name__
        # "said" is the key of the scores in the checkpoints of all versions.
        return {"kind": kind, "key": self._probe.key, **self._probe.state(), "said": dict(self._expected)}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        if state:
            kinds = {kind.__name__: kind for kind in PROBES.values()}
            self._probe, self._expected = kinds[state["kind"]].load(state), state["said"]
