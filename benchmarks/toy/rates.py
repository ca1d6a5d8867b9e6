"""Learning rates of the studies: one grid for all methods, and one criterion, fixed before any test seed is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: The rates that every method is tried at first.
GRID = (3e-5, 1e-4, 3e-4)
#: The seed whose fits and samples decide.
VALIDATION_SEED = 100
CRITERION = "the highest mean judged quality over the videos of the validation seed"
#: A grid that has grown to this length stays as it is, whatever is best; then the page says so.
LONGEST = 6
#: The mantissas of a grid.
_MANTISSAS = (1.0, 3.0)


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
