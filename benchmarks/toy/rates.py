"""Learning rates of the studies: one grid for all methods, and one criterion, fixed before any test seed is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

#: The seed whose fits and samples decide.
VALIDATION_SEED = 100
#: A grid that has grown to this length stays as it is, whatever is best; then the page says so.
LONGEST = 8
#: The mantissas of a grid.
_MANTISSAS = (1.0, 3.0)

Tried = TypeVar("Tried")


@dataclass(frozen=True, slots=True)
class Tuning(Generic[Tried]):
    """Choice of learning rates.

    Attributes:
        best: method -> its rate.
        grid: the rates that every method was tried at.
        tries: method -> rate -> what it gave on the validation seed.
    """

    best: Mapping[str, float]
    grid: Sequence[float]
    tries: Mapping[str, Mapping[float, Tried]]

    def json(self) -> dict[str, object]:
        """Every try, for the record."""
        tries = {name: {f"{rate:g}": tried for rate, tried in rates.items()} for name, rates in self.tries.items()}
        edge = at_edge(self.grid, self.best)
        return {"best": dict(self.best), "grid": list(self.grid), "at_edge": edge, "tries": tries}


def best_rates(tries: Mapping[str, Mapping[float, float]]) -> dict[str, float]:
    """Method -> its best rate; of equal ones the lowest.

    Args:
        tries: method -> rate -> quality.
    """
    return {name: min(rates, key=lambda rate: (-rates[rate], rate)) for name, rates in tries.items()}


def at_edge(grid: Sequence[float], best: Mapping[str, float]) -> list[str]:
    """The methods whose best rate is the lowest or highest of the grid."""
    return [name for name, rate in best.items() if rate in (min(grid), max(grid))]


def extended(grid: Sequence[float], best: Mapping[str, float]) -> tuple[float, ...]:
    """The grid with a rate more on each side where some method's best is at the edge; the same for every method.

    Args:
        grid: ascending.
        best: method -> its best rate so far.
    """
    low, high = min(grid), max(grid)
    rates = set(best.values())
    longer = [*([_next(low, down=True)] if low in rates else []), *grid, *([_next(high)] if high in rates else [])]
    return tuple(longer if len(longer) <= LONGEST else grid)


def _next(rate: float, down: bool = False) -> float:
    """The next rate of 1, 3, 10, 30, ... times a power of ten."""
    exponent = int(f"{rate:e}".partition("e")[2])
    first, second = _MANTISSAS
    is_first = f"{rate:e}".startswith("1")
    if down:
        return float(f"{second if is_first else first:g}e{exponent - 1 if is_first else exponent}")
    return float(f"{second if is_first else first:g}e{exponent if is_first else exponent + 1}")
