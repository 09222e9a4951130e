import torch
from helpers.given import parts, signals
from helpers.residual import resnet
from helpers.stats import measure

from sparsify.blocks import blocks


def means(program, task=None, **options):
    return measure(program, ["mean-absolute"], task, **options).found["mean-absolute"]


def test_it_is_that_of_what_the_next_layer_reads():
    model, program = resnet()
    block = model.layer1[0]
    with torch.no_grad():
        seen = block.act(block.bn1(block.conv1(model.act(model.conv1(program.example.args[0])))))
    found = means(program, signals=signals(program))["layer1.0.conv1"]
    torch.testing.assert_close(found, seen.double().abs().mean((0, 2, 3)))


def test_signs_do_not_cancel_in_what_a_block_adds():
    model, program = resnet()
    block = model.layer1[0]
    with torch.no_grad():
        before = model.act(model.conv1(program.example.args[0]))
        added = block.bn2(block.conv2(block.act(block.bn1(block.conv1(before)))))
    found = means(program, blocks=blocks(program))["layer1.0"]
    torch.testing.assert_close(found, added.double().abs().mean((0, 2, 3)), rtol=1e-5, atol=0)  # a float32 difference


def test_batches_add_up():
    _, program = resnet()
    apart, whole = parts(torch.randn(6, 3, 8, 8), count=3)
    one, other = (means(program, task, signals=signals(program)) for task in (apart, whole))
    for key in other:
        torch.testing.assert_close(one[key], other[key], rtol=1e-5, atol=0)  # batches of other sizes round differently
