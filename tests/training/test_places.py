"""Where kept values are, and the way between a tensor and the vector of them."""

import pytest
import torch

from sparsify.training.places import Places, gathered, scattered

LAST = torch.channels_last

TENSORS = {
    "scalar": lambda: torch.randn(()),
    "empty": lambda: torch.randn(0, 4),
    "short": lambda: torch.randn(3),
    "odd": lambda: torch.randn(7, 5, 3, 3),
    "turned": lambda: torch.randn(4, 5).t(),
    "channels last": lambda: torch.randn(8, 5, 3, 3).contiguous(memory_format=LAST),
    "several pieces": lambda: torch.randn(300, 700),
    "double": lambda: torch.randn(33, 3, dtype=torch.float64),
    "half": lambda: torch.randn(33, 3, dtype=torch.bfloat16),
}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("kind", TENSORS)
def test_there_and_back(kind, share):
    torch.manual_seed(0)
    tensor = TENSORS[kind]()
    mask, base = torch.rand(tensor.shape) < share, torch.randn_like(tensor)
    places = Places.of(mask, tensor)
    vector = places.gather(tensor)
    assert vector.ndim == max(1, tensor.ndim)
    assert places.count == int(mask.sum()) <= vector.numel()
    assert vector.element_size() * (vector.numel() - places.count) < 64
    assert torch.equal(places.scatter(vector), torch.where(mask, tensor, 0))
    assert torch.equal(places.scatter(vector, lambda: base), torch.where(mask, tensor, base))
    assert places.scatter(vector).stride() == tensor.clone().stride()
    assert torch.equal(places.mask, mask)
    assert places.mask.stride() == tensor.clone().stride()
    assert places.offsets.nbytes == 2 * vector.numel()


def test_a_gradient_of_other_strides_is_read_by_its_indices():
    mask, tensor = torch.rand(6, 5) < 0.5, torch.randn(6, 5)
    places = Places.of(mask, tensor)
    assert torch.equal(places.gather(tensor.t().contiguous().t()), places.gather(tensor))
    assert torch.equal(places.scatter(places.gather(torch.ones(()).expand(6, 5))), mask.float())


@pytest.mark.parametrize("with_base", [False, True])
def test_gradients_of_both_orders(with_base):
    torch.manual_seed(0)
    tensor = torch.randn(7, 5, dtype=torch.float64)
    places = Places.of(torch.rand(7, 5) < 0.5, tensor)
    base = (lambda: tensor) if with_base else None
    vector = places.gather(tensor).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: (scattered(x, places, base) ** 3).sum(), vector)
    assert torch.autograd.gradgradcheck(lambda x: (gathered(x, places) ** 3).sum(), tensor.clone().requires_grad_())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_optimizer_rounds_every_value_as_it_does_in_the_whole_tensor(optimizer):
    torch.manual_seed(0)
    for size in (*range(1, 40), 1003):
        mask, tensor = torch.rand(size) < 0.6, torch.randn(size)
        places = Places.of(mask, tensor)
        whole = torch.nn.Parameter(torch.where(mask, tensor, 0.0))
        vector = torch.nn.Parameter(places.gather(tensor))
        for parameter in (whole, vector):
            generator = torch.Generator().manual_seed(size)
            made = (
                torch.optim.AdamW([parameter], 1e-2, weight_decay=0.1, fused=True)
                if optimizer == "adamw"
                else torch.optim.SGD([parameter], 0.05, momentum=0.9, weight_decay=0.05, fused=True)
            )
            for _ in range(30):
                gradient = torch.randn(size, generator=generator)
                parameter.grad = places.gather(gradient) if parameter is vector else gradient * mask
                made.step()
        assert torch.equal(whole.detach(), places.scatter(vector.detach()))
