"""Exchange of synthetic for real films: closed forms, Fieller's interval, and when there is no answer."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from cxrbench.statistics.exchange import Exchange, exchange_rate, learning_curve, sentence


@dataclass(frozen=True)
class Known:
    gain: float
    low: float
    high: float


def exact_curve(slope=0.1, sizes=(100, 200, 300), wobble=0.0):
    offsets = np.resize([wobble, -wobble], len(sizes) * 2)
    return learning_curve(
        [(n, 0.5 + slope * math.log(n) + o) for n, o in zip(np.repeat(sizes, 2), offsets, strict=True)]
    )


def test_the_slope_and_its_interval_are_least_squares():
    rng = np.random.default_rng(0)
    points = [(n, 0.5 + 0.05 * math.log(n) + rng.normal(0, 0.01)) for n in (100, 200, 300) for _ in range(3)]
    curve = learning_curve(points)
    fit = stats.linregress([math.log(n) for n, _ in points], [score for _, score in points])
    assert (curve.slope, curve.intercept) == pytest.approx((fit.slope, fit.intercept))
    assert curve.high - curve.slope == pytest.approx(stats.t.ppf(0.975, 7) * fit.stderr)
    assert (curve.smallest, curve.largest, curve.points) == (100, 300, 9)


def test_a_gain_that_doubling_the_real_films_would_bring_is_worth_as_many_again():
    gain = 0.1 * math.log(2)
    exchange = exchange_rate(Known(gain, gain, gain), 600, exact_curve())
    assert exchange.per_thousand == pytest.approx(300 / 600 * 1000)
    assert exchange.low == pytest.approx(exchange.per_thousand, rel=1e-4)


def test_no_gain_is_worth_nothing_and_harm_costs_films():
    assert exchange_rate(Known(0.0, -0.01, 0.01), 300, exact_curve()).per_thousand == 0
    harm = exchange_rate(Known(-0.05, -0.06, -0.04), 300, exact_curve())
    assert harm.low < harm.per_thousand < harm.high < 0


def test_a_sure_curve_hands_the_gains_interval_through():
    exchange = exchange_rate(Known(0.02, -0.01, 0.05), 500, exact_curve())
    assert exchange.low == pytest.approx(2 * 300 * math.expm1(-0.1), rel=1e-6)
    assert exchange.high == pytest.approx(2 * 300 * math.expm1(0.5), rel=1e-6)


def test_an_unsure_curve_widens_the_interval():
    sure, unsure = (exchange_rate(Known(0.04, 0.03, 0.05), 500, exact_curve(wobble=w)) for w in (0.0, 0.005))
    assert unsure.low < sure.low < sure.high < unsure.high


def test_fiellers_interval_covers_the_true_rate():
    rng = np.random.default_rng(0)
    covered, truth = 0, 1000 * 300 * math.expm1(0.03 / 0.1) / 300
    for _ in range(400):
        curve = learning_curve(
            [(n, 0.1 * math.log(n) + rng.normal(0, 0.01)) for n in (100, 200, 300) for _ in range(3)]
        )
        gain = rng.normal(0.03, 0.01)
        exchange = exchange_rate(Known(gain, gain - 1.96 * 0.01, gain + 1.96 * 0.01), 300, curve)
        covered += exchange.per_thousand is not None and exchange.low <= truth <= exchange.high
    assert covered / 400 >= 0.93


@pytest.mark.parametrize(
    ("gain", "curve", "reason"),
    [
        (Known(0.01, 0.0, 0.02), None, "not measured at two sizes"),
        (Known(0.01, math.nan, math.nan), exact_curve(), "no interval"),
        (Known(0.01, 0.0, 0.02), exact_curve(slope=0.0, wobble=0.01), "not known to help"),
        (Known(0.01, 0.0, 0.02), exact_curve(slope=-0.1), "not known to help"),
        (Known(0.01, 0.0, 0.02), learning_curve([(100, 0.7), (200, 0.8)]), "not known to help"),
        (Known(0.14, 0.13, 0.15), exact_curve(), "more than 4 times"),
        (Known(-0.12, -0.13, -0.11), exact_curve(), "fewest real films"),
    ],
)
def test_where_the_curve_cannot_tell_there_is_no_rate_but_a_reason(gain, curve, reason):
    exchange = exchange_rate(gain, 300, curve)
    assert exchange.per_thousand is None
    assert reason in exchange.reason
    assert sentence(exchange) == f"no exchange rate: {exchange.reason}"


def test_bounds_off_the_curve_are_open():
    exchange = exchange_rate(Known(0.0, -0.2, 0.2), 300, exact_curve())
    assert (exchange.low, exchange.high) == (-math.inf, math.inf)
    assert sentence(exchange) == "1,000 synthetic = 0 real (95 % interval below the curve to beyond the curve)"


def test_the_sentence_reads_as_promised():
    assert sentence(Exchange(37.2, -20.4, 1234.5)) == "1,000 synthetic = 37 real (95 % interval -20 to 1,234)"


def test_one_size_is_no_curve_and_nonsense_is_refused():
    assert learning_curve([(100, 0.7), (100, 0.8)]) is None
    assert learning_curve([]) is None
    with pytest.raises(ValueError, match="at least one film"):
        learning_curve([(0, 0.7), (100, 0.8)])
    with pytest.raises(ValueError, match="finite"):
        learning_curve([(50, math.nan), (100, 0.8)])
    with pytest.raises(ValueError, match="needs synthetic films"):
        exchange_rate(Known(0.1, 0.0, 0.2), 0, exact_curve())
