"""Options of early-bird: defaults are those of the papers, and what cannot be is refused."""

import pytest

from sparsify.errors import UsageError
from sparsify.tickets.early_options import EarlyOptions


def test_defaults():
    options = EarlyOptions()
    assert (options.window, options.distance, options.l1, options.every) == (5, 0.1, 1e-4, "1ep")
    assert (options.chosen_criterion, options.chosen_scope) == ("norm-scale", "global")
    assert EarlyOptions(unit="weights").chosen_criterion == "magnitude"
    assert EarlyOptions(unit="heads").chosen_scope == "uniform"
    assert EarlyOptions(unit="heads", scope="global").chosen_scope == "global"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sparsity": 0.0}, "sparsity=0.0 is not between 0 and 1"),
        ({"sparsity": 1.0}, "sparsity=1.0 is not between 0 and 1"),
        ({"distance": 0.0}, r"distance=0.0 is not in \(0, 1\]"),
        ({"l1": -1.0}, "l1=-1.0 is negative"),
        ({"window": 1}, "window=1: fewer than two masks cannot agree"),
        ({"batches": 0}, "batches=0 is less than 1"),
        ({"every": "0it"}, "every=0it is no pace"),
        ({"unit": "heads", "criterion": "magnitude"}, "unit=heads goes by its coefficients"),
        ({"criterion": "magnitud"}, "did you mean 'magnitude'"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 is not positive"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        EarlyOptions(**given)
