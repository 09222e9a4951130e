import pytest

from sparsify.errors import UsageError
from sparsify.retrain import parse_method
from sparsify.tickets.lottery_options import LotteryOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds=0 is less than 1"),
        ({"count": 0}, "count=0 is less than 1"),
        ({"rate": 1.0}, r"rate=1.0 is not between 0 and 1"),
        ({"rewind": "7"}, "'7' is not a number of steps"),
        ({"criterion": "magnitudo"}, "did you mean 'magnitude'"),
        ({"pattern": "2:4"}, "pattern=2:4 takes rounds=1"),
        ({"pattern": "block4", "unit": "channels"}, "pattern=block4 is for unit=weights"),
        ({"last": "half"}, "last=half goes with unit=weights,scope=layer"),
        ({"when": "init", "rewind": "5it"}, "when=init has nothing to rewind"),
        ({"when": "init", "mode": "fine-tune"}, "when=init has nothing to rewind"),
        ({"controls": ("dense",)}, "the dense network is trained anyway"),
        ({"unit": "layers", "controls": ("shuffle",)}, "controls=shuffle are not for layers"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 is not positive"),
    ],
)
def test_what_is_out_of_range_or_contradicts_itself(options, message):
    with pytest.raises(UsageError, match=message):
        LotteryOptions(**options)


def test_what_goes_together():
    LotteryOptions(pattern="2:4", rounds=1)
    LotteryOptions(scope="layer", last="half")
    LotteryOptions(when="init", controls=("dense", "random"))


def test_a_wrong_control_offers_the_nearest_and_lists_no_options():
    with pytest.raises(UsageError) as told:
        parse_method("lth:controls=reinit,randm")
    assert str(told.value) == (
        "lth: controls='reinit,randm' holds 'randm', which is not one of reinit, random, shuffle, invert, small-dense, "
        "dense (did you mean 'random'?)."
    )
