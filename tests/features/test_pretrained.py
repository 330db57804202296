"""What the extractors with published weights share."""

import numpy as np
import torch

from cxrbench.contracts import no_progress
from cxrbench.features.pretrained import in_batches


def test_features_are_of_whole_float32_on_a_gpu_too():
    """It convolves in TF32 by default; and what a user has set is as it was afterwards."""
    seen, convolutions, products = [], torch.backends.cudnn.conv, torch.backends.cuda.matmul

    def network(films):
        seen.append((convolutions.fp32_precision, products.fp32_precision))
        return films.flatten(1).float()

    before = convolutions.fp32_precision, products.fp32_precision
    in_batches(network, np.zeros((3, 1, 2, 2), np.uint8), 2, 4, "cpu", no_progress)
    assert seen == [("ieee", "ieee")] * 2
    assert (convolutions.fp32_precision, products.fp32_precision) == before


def test_the_last_films_are_computed_among_as_many_as_the_others():
    sizes = []

    def network(films):
        sizes.append(len(films))
        return films.flatten(1).float()

    films = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    rows = in_batches(network, films, 2, 1, "cpu", no_progress)
    assert sizes == [2, 2, 2]
    np.testing.assert_array_equal(rows, [[0], [1], [2], [3], [4]])
