"""Numbers as they are shown; a missing one (NaN) is an empty cell."""

from __future__ import annotations

MISSING = ""


def interval(value: float, low: float, high: float, form: str = ".3f") -> str:
    """A value with its interval; three decimals are gains, which are signed."""
    if value != value:  # NaN: there is no such value
        return MISSING
    signed = form if form != ".3f" else "+.3f"
    text = format(value, signed)
    return text if low != low else f"{text} ({format(low, signed)} to {format(high, signed)})"


def distance(value: float, *, signed: bool = False) -> str:
    """One decimal; fewer digits where a distance runs into the thousands."""
    form = ".1f" if abs(value) < 1000 else ".3g"
    return number(value, f"+{form}" if signed else form)


def distances(value: float, low: float, high: float) -> str:
    """A distance with its interval."""
    if value != value:
        return MISSING
    return f"{distance(value)} ({distance(low)} to {distance(high)})" if low == low else distance(value)


def p_value(value: float) -> str:
    """Three decimals."""
    if value != value:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def number(value: float, form: str) -> str:
    """In the given format."""
    return MISSING if value != value else format(value, form)


def spread(mean: float, sd: float, *, digits: int = 3, signed: bool = False) -> str:
    """Mean and standard deviation."""
    if mean != mean:
        return MISSING
    text = f"{mean:+.{digits}f}" if signed else f"{mean:.{digits}f}"
    return text if sd != sd else f"{text} ± {sd:.{digits}f}"
