"""What the training samples of a run are, and whether it may go on from a saved state with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from datamodules.shards.index import Index
from datamodules.stream.changed_content import content_changes, moved
from datamodules.stream.plan import TrainPlan
from datamodules.stream.run_place import at_a_step


@dataclass(frozen=True, slots=True, eq=False)
class TrainingContent:
    """The training samples of a run and what was set for them, for comparison with a saved state.

    Attributes:
        index: of all training samples.
        data_sets: index file -> its fingerprint, in order.
        identity: what must not change over a resume besides shards, seed, window and filter, in plain types.
        origin_of: name of an entry of `identity`, or of a plan's -> what to say behind it, where it is a hash of the
            content of files; "" = it is a setting.
        allow_changed: whether other samples than the state's are accepted.
    """

    index: Index
    data_sets: Mapping[str, str]
    identity: Mapping[str, Any]
    origin_of: Callable[[str], str]
    allow_changed: bool

    def faults(self, state: Mapping[str, Any], plan: TrainPlan) -> list[str]:
        """Why a run with this plan cannot go on from a saved state; empty = it can.

        Args:
            state: what a data module's `state_dict` returned.
            plan: of now; of its settings only those that decide the order matter.
        """
        try:
            changed = bool(self._changes(state))
            order = plan.identity()
            if changed:
                del order["kept"]  # a hash of positions, which other samples change by themselves
            self._require_same({**state, **state.get("identity", {})}, {**order, **self._comparable(changed)})
        except ValueError as error:
            return [str(error)]
        return []

    def adapted(self, state: Mapping[str, Any], plan: TrainPlan) -> tuple[dict[str, Any], str]:
        """The state from which a run with this plan goes on, and a warning where its samples are others; "" = none.

        Args:
            state: what a data module's `state_dict` returned.
            plan: of now.

        Raises:
            ValueError: the samples or their settings are others, and that is not allowed.
        """
        # First of all: a place among other samples is counted from the end of an optimizer step.
        state = at_a_step(state)
        changes = self._changes(state)
        self._require_same(state.get("identity", {}), self._comparable(bool(changes)))
        if not changes:
            return state, ""
        state, place = moved(state, plan, self.index)
        return state, f"the content of the training samples has changed: {changes}. {place}"

    def _changes(self, state: Mapping[str, Any]) -> str:
        """Which data sets hold other samples than those of a saved state; "" = none.

        Raises:
            ValueError: some do, and that is not allowed.
        """
        # Not by the data sets' own: earlier releases saved the fingerprint of all of them alone.
        before, now = state["fingerprint"], self.index.fingerprint
        if before == now:
            return ""
        changes = "; ".join(content_changes(state.get("data_sets", {}), self.data_sets))
        if not self.allow_changed:
            raise ValueError(
                f"cannot resume: the content of the training samples has changed: {changes} (fingerprint was "
                f"{before[:12]}, is {now[:12]}). Restore the former shards, go on with these by --data.allow_changed "
                "true, or start a new run: another --trainer.default_root_dir, or --ckpt_path null"
            )
        return changes

    def _comparable(self, changed: bool) -> dict[str, Any]:
        """What must be as it was: the settings, and where no other samples are allowed the content of files as well."""
        return {name: value for name, value in self.identity.items() if not (changed and self.origin_of(name))}

    def _require_same(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        changed = [
            f"{name} was {before.get(name)!r}, is {value!r}{self.origin_of(name)}"
            for name, value in now.items()
            if before.get(name) != value
        ]
        if changed:
            raise ValueError(
                f"cannot resume: the samples are not what they were ({'; '.join(changed)}). Restore the former "
                "settings, or start a new run: another --trainer.default_root_dir, or --ckpt_path null"
            )
