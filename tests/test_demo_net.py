import pytest
import torch
from torch import nn

from sparsify.capture import capture
from sparsify.demo_net import DIGITS_TRAINING, BasicBlock, ResNet, digits_resnet
from sparsify.task import resolve
from sparsify.training.train import train


def test_its_size_and_blocks():
    model = digits_resnet()
    assert sum(p.numel() for p in model.parameters()) == 272_186
    assert sum(isinstance(module, BasicBlock) for module in model.modules()) == 9
    projections = [
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and "shortcut" in name
    ]
    assert projections == ["layer2.0.shortcut.0", "layer3.0.shortcut.0"]


def test_the_seed_decides_the_weights_and_nothing_else():
    before = torch.get_rng_state()
    one, two, other = digits_resnet(1), digits_resnet(1), digits_resnet(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.conv1.weight, two.conv1.weight)
    assert not torch.equal(one.conv1.weight, other.conv1.weight)


def test_every_parameter_has_a_gradient_at_initialization():
    model = digits_resnet()
    nn.functional.cross_entropy(model(torch.randn(8, 1, 8, 8)), torch.arange(8)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_other_depths_and_widths():
    model = ResNet(blocks=(5, 5, 5), channels=3).eval()  # ResNet-32
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 31 + 2
    assert ResNet((1, 2), (4, 8), classes=3)(torch.randn(2, 1, 7, 7)).shape == (2, 3)


@pytest.fixture(scope="module")
def trained():
    task = resolve("digits")
    program = capture(digits_resnet().eval(), task.example()[0])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network gains little from more, and loses much when others want the cores
    yield train(program, task, DIGITS_TRAINING)
    torch.set_num_threads(threads)


def test_it_learns_the_digits_in_seconds(trained):
    assert len(trained.losses) == 168
    assert resolve("digits").score(trained.program.module()).value >= 0.97


def test_losing_a_block_costs_little(trained):
    model = digits_resnet()
    model.load_state_dict({**trained.program.parameters, **trained.program.buffers})
    model.eval()
    model.layer3[2] = nn.Identity()
    model.layer1[1] = nn.Identity()
    assert resolve("digits").score(model).value >= 0.93
