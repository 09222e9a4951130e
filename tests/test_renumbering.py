import torch

from sparsify.renumbering import renamed, renumbered, same


def model(*values, name="enc.layer", part="fc.weight"):
    """A list of blocks; each holds the same number, and a number that all have."""
    return {
        **{f"{name}.{n}.{part}": torch.full((2,), float(value)) for n, value in enumerate(values)},
        **{f"{name}.{n}.norm": torch.ones(2) for n in range(len(values))},
        "head.weight": torch.zeros(2),
    }


def test_blocks_are_known_by_their_values():
    found = renumbered(model(5, 6, 7, 8), model(6, 8))
    assert found == {"enc.layer.0": "enc.layer.1", "enc.layer.1": "enc.layer.3"}
    assert renamed("enc.layer.1.fc.weight", found) == "enc.layer.3.fc.weight"
    assert renamed("enc.layer.1", found) == "enc.layer.3"
    assert renamed("enc.layer.10.fc", found) == "enc.layer.10.fc"
    assert renamed("head.weight", found) == "head.weight"


def test_all_of_a_list_in_the_same_order_or_none():
    assert renumbered(model(5, 6, 7), model(6, 9)) == {}
    assert renumbered(model(5, 6, 7), model(7, 6)) == {}
    assert renumbered(model(5, 6, 7), model(6, 7, part="other.weight")) == {}
    assert renumbered(model(5, 6, 7), {"head.weight": torch.zeros(2)}) == {}


def test_names_that_are_right_stay():
    alike, cut = model(5, 5, 5), model(5, 5, 5)
    del cut["enc.layer.0.fc.weight"], cut["enc.layer.0.norm"]
    assert renumbered(alike, cut) == {}
    assert renumbered(model(5, 6, 7), model(5, 6)) == {}
    assert renumbered(model(5, 6), model(6, 5)) == {}
    assert renumbered(model(5), model(5, 6)) == {}


def test_lists_in_lists():
    before = {**model(1, 2, name="s.0.b"), **model(3, 4, 5, name="s.1.b"), **model(6, 7, name="s.2.b")}
    outer = {**model(3, 4, 5, name="s.0.b"), **model(6, 7, name="s.1.b")}
    assert renumbered(before, outer) == {"s.0": "s.1", "s.1": "s.2"}
    inner = {**model(1, 2, name="s.0.b"), **model(4, 5, name="s.1.b"), **model(6, 7, name="s.2.b")}
    assert renumbered(before, inner) == {"s.1.b.0": "s.1.b.1", "s.1.b.1": "s.1.b.2"}


def test_the_same_is_bit_for_bit():
    one = {"w": torch.tensor([0.0, float("nan")])}
    assert same(one, {"w": one["w"].clone()})
    assert not same(one, {"w": torch.tensor([-0.0, float("nan")])})
    assert not same(one, {"v": one["w"]})
