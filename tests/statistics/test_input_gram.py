import torch
from helpers.regression import Regression
from helpers.residual import wired
from helpers.stats import measure
from torch import nn
from torch.nn import functional as F

from sparsify.observation.calibration import Calibration
from sparsify.observation.subject import Subject
from sparsify.statistics.input_gram import InputGram


def gram(program, task=None, name="a.weight", **options):
    return measure(program, ["input-gram"], task, signals=[], **options).found["input-gram"][name]


def test_linear_over_two_batches_and_all_tokens():
    _, program = wired(lambda s, x: s.a(x).flatten(1), (torch.randn(2, 4, 3),), a=nn.Linear(3, 2))
    task = Regression(inputs=(4, 3), outputs=8)
    found = gram(program, task, batches=2)
    x = torch.cat([x for x, _ in list(task.batches("train"))[:2]]).flatten(0, 1)
    torch.testing.assert_close(found, (x.T @ x / len(x))[None])


def test_convolution_over_channels_and_kernel():
    _, program = wired(lambda s, x: s.a(x), (torch.randn(2, 4, 6, 6),), a=nn.Conv2d(4, 6, 3, 2, 1, groups=2))
    found = gram(program)
    columns = F.unfold(program.example.args[0], 3, stride=2, padding=1)  # [2, 4·9, positions]
    rows = columns.view(2, 2, 18, -1).permute(1, 0, 3, 2).reshape(2, -1, 18)
    torch.testing.assert_close(found, rows.mT @ rows / rows.shape[1])


def test_half_precision_is_summed_in_float32():
    x = torch.full((2, 3), 300.0, dtype=torch.bfloat16)
    _, program = wired(lambda s, x: s.a(x), (x,), a=nn.Linear(3, 2, dtype=torch.bfloat16))
    found = gram(program)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((1, 3, 3), float(x[0, 0]) ** 2))


def test_many_rows_are_summed_in_pieces():
    x = torch.randn(3, 6000, 2)
    _, program = wired(lambda s, x: s.a(x), (x,), a=nn.Linear(2, 2))
    rows = x.flatten(0, 1).double()
    torch.testing.assert_close(gram(program)[0].double(), rows.T @ rows / len(rows), rtol=1e-4, atol=1e-4)  # float32


def test_a_weight_that_two_layers_read_sees_the_inputs_of_both():
    _, program = wired(lambda s, x: s.a(s.a(x)), (torch.randn(5, 3),), a=nn.Linear(3, 3))
    layer = next(iter(program.parameters))
    model = program.module()
    x = program.example.args[0]
    with torch.no_grad():
        rows = torch.cat([x, F.linear(x, model.a.weight, model.a.bias)])
    torch.testing.assert_close(gram(program, name=layer)[0], rows.T @ rows / len(rows))


def test_biases_have_none_and_memory_is_known_beforehand():
    _, program = wired(lambda s, x: s.a(x), (torch.randn(2, 4, 6, 6),), a=nn.Conv2d(4, 6, 3, groups=2))
    found = measure(program, ["input-gram"], None, signals=[]).found["input-gram"]
    assert set(found) == {"a.weight"}
    subject = Subject(program, Calibration(None), list(program.parameters))
    assert InputGram().bytes(subject, "a.weight") == found["a.weight"].nbytes
    assert InputGram().bytes(subject, "a.bias") == 0


def test_recurrent_layers_have_none():
    _, program = wired(lambda s, x: s.b(s.a(x)[0]), (torch.randn(2, 4, 3),), a=nn.LSTM(3, 5), b=nn.Linear(5, 2))
    assert set(measure(program, ["input-gram"], None, signals=[]).found["input-gram"]) == {"b.weight"}
