"""Phases of the study of VistaDPO: conditions, learning rates, test seeds; each may depend on what came out before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.toy.rates import VALIDATION_SEED
from benchmarks.toy.study import Study
from benchmarks.toy.vista.conditions import Condition, read_conditions, table
from benchmarks.toy.vista.methods import BASE, Method, VistaStages

#: The rates that every method is tried at first.
GRID = (3e-4, 1e-3, 3e-3)
CRITERION = "the highest accuracy of stated facts over all test videos of the validation seed"
#: Packages that the numbers depend on, beside the code.
PACKAGES = ("transformers", "lightning", "peft")

#: Measures of one run.
Scores = Mapping[str, float]


@dataclass(slots=True)
class VistaStudy(Study[VistaStages, Method, float]):
    """VistaDPO's study: conditions, learning rates by the accuracy of stated facts, test seeds."""

    def conditions(self) -> list[Condition]:
        """The conditions of the base model, printed; what follows from them is the caller's matter."""
        self.run([self.make.conditions()], "Conditions")
        return self._shown_conditions("")

    def base_conditions(self, methods: Mapping[str, Method]) -> dict[str, list[Condition]]:
        """Tune the base models that methods begin from beside the shipped one: name -> its conditions, printed."""
        if stages := list(self.make.based(methods)):
            self.run(stages, "Base models and their conditions")
        return {name: self._shown_conditions(name) for name in dict.fromkeys(m.base for m in methods.values()) if name}

    def _shown_conditions(self, base: str) -> list[Condition]:
        found = read_conditions(self.make.conditions_file(base))
        self.console.print(f"{base}\n{table(found)}" if base else table(found), markup=False)
        return found

    def tries(self, methods: Mapping[str, Method], grid: Sequence[float]) -> dict[str, dict[float, float]]:
        """See `Study.tries`: the accuracy of stated facts."""
        seed = VALIDATION_SEED
        stages = [*self.make.prepared(methods, [seed])]
        for rate in grid:
            for name, method in methods.items():
                stages.append(self.make.fit(name, method, seed, rate))
                stages.append(self.make.measure(name, method, seed, rate, criterion=True))
        self.run(stages, f"Learning rates: {', '.join(f'{rate:g}' for rate in grid)}")
        return {name: {rate: self.scores(name, seed, rate)["stated"] for rate in grid} for name in methods}

    def criterion(self, tried: float) -> float:
        """The accuracy itself."""
        return tried

    def tested(
        self,
        methods: Mapping[str, Method],
        rates: Mapping[str, float],
        seeds: Sequence[int],
        base: Method | None = None,
    ) -> dict[str, list[Scores]]:
        """Fit and measure every method on the test seeds.

        Args:
            methods: name -> method.
            rates: name -> learning rate.
            seeds: of data, negatives and training.
            base: which videos the base model is measured on beside them; None = it is not.

        Returns:
            name -> the scores of each seed; the base model's under `BASE`.
        """
        measured = methods if base is None else {BASE: base, **methods}
        stages = [*self.make.prepared(measured, seeds)]
        for seed in seeds:
            for name, method in measured.items():
                rate = rates.get(name)
                if rate is not None and not method.fit_of:
                    stages.append(self.make.fit(name, method, seed, rate))
                stages.append(self.make.measure(name, method, seed, rate))
        self.run(stages, f"Test seeds {', '.join(map(str, seeds))}")
        return {name: [self.scores(name, seed, rates.get(name)) for seed in seeds] for name in measured}

    def scores(self, name: str, seed: int, rate: float | None) -> Scores:
        """The measures of one run, which is done."""
        scores: Scores = json.loads(self.make.scores(name, seed, rate).read_text(encoding="utf-8"))
        return scores
