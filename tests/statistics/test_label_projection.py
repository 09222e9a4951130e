import numpy as np
import pytest
import torch
from helpers.given import Given, parts, signals
from helpers.residual import mlp, resnet, wired
from helpers.stats import measure
from helpers.zoo import FAMILIES
from sklearn.cross_decomposition import PLSRegression
from torch import nn

import sparsify as sp
from sparsify.blocks import blocks
from sparsify.errors import PassError
from sparsify.statistics.label_projection import COMPONENTS


def projections(program, task, **options):
    return measure(program, ["label-projection"], task, **options).found["label-projection"]


def by_sklearn(features, labels, components):
    """VIP from the data matrices."""
    answers = np.eye(int(labels.max()) + 1)[labels.numpy()]
    model = PLSRegression(components, scale=True, tol=1e-12, max_iter=10_000).fit(features.double().numpy(), answers)
    t, w, q = model.x_scores_, model.x_weights_, model.y_loadings_
    explained = (t**2).sum(0) * (q**2).sum(0)
    return torch.from_numpy(np.sqrt(len(w) * (w**2 @ explained) / explained.sum()))


def images(count=60, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % classes
    x = torch.randn(count, 3, 8, 8, generator=generator)
    x[:, 0] += y[:, None, None] * 0.5
    x[:, 1, :4] += (y == 1)[:, None, None] * 0.7
    return x, y


def seen_in(model, x):
    """The pooled channels inside of two blocks."""
    with torch.no_grad():
        start = model.act(model.conv1(x))
        one = model.layer1[0]
        first = one.act(one.bn1(one.conv1(start)))
        two = model.layer1[1]
        second = two.act(two.bn1(two.conv1(one(start))))
    return first.double().mean((2, 3)), second.double().mean((2, 3))


def inner(program):
    return [signal for signal in signals(program) if signal.key in ("layer1.0.conv1", "layer1.1.conv1")]


@pytest.mark.parametrize("components", range(1, COMPONENTS + 1))
def test_it_is_vip_of_one_model_of_all_channels(components):
    model, program = resnet()
    x, y = images()
    found = projections(program, parts(x, y, count=4)[0], signals=inner(program))
    expected = by_sklearn(torch.cat(seen_in(model, x), 1), y, components)
    ours = torch.cat([found[signal.key][:, components - 1] for signal in inner(program)])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)  # features are float32, rounded batch by batch
    assert float(ours.square().mean()) == pytest.approx(1.0)


def test_classes_may_turn_up_late():
    _, program = resnet()
    x, y = images()
    order = torch.argsort(y, stable=True)
    late, mixed = parts(x[order], y[order], count=3)[0], parts(x, y, count=3)[0]
    one, other = (projections(program, task, signals=inner(program)) for task in (late, mixed))
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=1e-4, atol=1e-5)  # another order of float32 features


def test_blocks_compare_because_they_are_in_one_model():
    model, program = mlp()
    y = torch.arange(80) % 2
    x = torch.randn(80, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.stem.weight.mul_(0.3)
        x = x + (y * 2 - 1)[:, None] * 2.0
        model.blocks[1][0].weight.zero_()  # what it adds varies with nothing
    found = projections(program, parts(x, y)[0], blocks=blocks(program))
    means = {name: float(value[:, 1].mean()) for name, value in found.items()}
    assert means["blocks.1"] == 0.0
    assert min(means["blocks.0"], means["blocks.2"]) > 0.5


def test_several_places_are_averaged():
    def wire(s, x):
        y = s.a(x)
        return s.b(torch.relu(y)) + s.c(torch.tanh(y))

    x, y = torch.randn(30, 3, generator=torch.Generator().manual_seed(2)), torch.arange(30) % 2
    model, program = wired(wire, (x[:2],), a=nn.Linear(3, 4), b=nn.Linear(4, 2), c=nn.Linear(4, 2))
    with torch.no_grad():
        hidden = model.a(x).double()
    found = projections(program, parts(x, y)[0], signals=signals(program))["a"]
    expected = by_sklearn((torch.relu(hidden) + torch.tanh(hidden)) / 2, y, 2)
    torch.testing.assert_close(found[:, 1], expected, rtol=1e-4, atol=1e-5)  # as above


def test_labels_that_say_nothing_give_no_importance():
    _, program = resnet()
    x, _ = images()
    found = projections(program, parts(x, torch.ones(len(x), dtype=torch.int64))[0], signals=inner(program))
    assert all(bool((value == 0).all()) for value in found.values())


def test_more_components_than_the_data_has_change_nothing():
    x, y = torch.tensor([[1.0], [-1.0], [2.0], [-3.0]]), torch.tensor([0, 1, 0, 1])
    _, program = wired(lambda s, x: s.b(s.a(x)), (x,), a=nn.Linear(1, 3), b=nn.Linear(3, 2))
    found = projections(program, Given([(x, y)]), signals=signals(program))["a"]
    torch.testing.assert_close(found, torch.ones_like(found))  # three copies of one feature


def test_tokens_in_a_long_line_belong_to_their_examples():
    model, args, kwargs = FAMILIES["gpt2"]()
    program = sp.capture(model, args, kwargs=kwargs)
    ids, y = torch.randint(0, 59, (12, 11), generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2
    seen = []
    model.transformer.h[1].mlp.c_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    class Texts(Given):
        def loss(self, model, batch):
            out = model(input_ids=batch[0])
            return (out[0] if isinstance(out, tuple) else out["logits"]).mean()

    with torch.no_grad():
        model(input_ids=ids)
    (signal,) = [signal for signal in signals(program) if signal.key == "transformer.h.1.mlp.c_fc"]
    found = projections(program, Texts([(ids[:6], y[:6]), (ids[6:], y[6:])]), signals=[signal])[signal.key]
    torch.testing.assert_close(found[:, 1], by_sklearn(seen[0].mean(1), y, 2), rtol=1e-3, atol=1e-4)  # float32 features


class Short(Given):
    def labels(self, batch):
        return batch[1][:5]


def test_channels_that_do_not_fit_the_labels_are_refused():
    _, program = resnet()
    x, y = images(count=6)
    with pytest.raises(PassError, match=r"layer1.0.conv1 cannot be matched with labels \(6 rows for 5 labels\)"):
        projections(program, Short([(x, y)]), signals=inner(program))
