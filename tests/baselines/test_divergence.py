"""Divergence: losses, gradients and weights that end a fit, and what is said of the looks before."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.errors import Diverged
from cxrbench_baselines.diagnosis import Look, explain_divergence, has_exploded


def test_a_loss_that_is_not_a_number_ends_the_fit_with_what_was_seen_before(tmp_path, Fit):
    fit = Fit(tmp_path)
    for gradient in (0.5, 5.0, 50.0):
        fit.look(gradient=gradient, generator_loss=1.0)
    with pytest.raises(Diverged) as end:
        fit.look(generator_loss=float("nan"))
    assert str(end.value) == (
        "generator_loss became nan at step 31 of 200; seen before: the gradient norm of the generator grew from 0.5 "
        "(step 1) to 50 (step 21); the last good checkpoint is kept"
    )


def test_divergence_at_the_first_look_and_after_sound_ones_says_so():
    assert "nothing had been looked at before" in explain_divergence("loss became inf", [], 1, 0)
    assert "2 looks before it, the last at step 11, had seen nothing wrong" in explain_divergence(
        "loss became inf", [Look(1, {}), Look(11, {})], 20, 100
    )


def test_an_exploding_gradient_ends_the_fit(tmp_path, Fit):
    fit = Fit(tmp_path)
    for _ in range(3):
        fit.look(gradient=0.1)
    fit.look(gradient=900.0)  # a spike, but no explosion
    with pytest.raises(Diverged, match=r"gradient norm of the generator became 1\.1e\+03, more than 10,000 times"):
        fit.look(gradient=1100.0)


def test_the_first_looks_have_no_usual_gradient_to_compare_with(tmp_path, Fit):
    fit = Fit(tmp_path)
    for gradient in (1e-3, 1e-3, 1e6):
        fit.look(gradient=gradient)


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=9), st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_gradient_explodes_only_beyond_its_past_and_the_weights(before, gradient, weights):
    looks = [Look(step, {"gradient/net": value}) for step, value in enumerate(before)]
    exploded = has_exploded(looks, "net", gradient, weights)
    assert exploded == (gradient > 1e4 * np.median(before) and gradient > weights)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_and_weights_that_are_not_finite_end_the_fit(tmp_path, value, Fit, net):
    with pytest.raises(Diverged, match=f"the gradient norm of the generator became {value} at step 1 of 200"):
        Fit(tmp_path).look(gradient=value)
    broken = net()
    broken.weight.data[0, 0] = value
    with pytest.raises(Diverged, match="weights of the average became nan or infinite"):
        Fit(tmp_path, average=broken).look()


def test_a_running_mean_that_is_not_a_number_ends_the_fit(tmp_path, Fit):
    norm = torch.nn.BatchNorm2d(2)
    norm.running_mean[0] = float("nan")
    with pytest.raises(Diverged, match="weights of the generator became nan"):
        Fit(tmp_path, generator=norm).look()
