import pytest
import torch
from helpers.residual import resnet
from helpers.sparse import Clusters, program_of
from torch import nn

import sparsify as sp
from sparsify.demo_net import ResNet
from sparsify.errors import InputError, PassError
from sparsify.tickets.ticket import Ticket

GOLDEN = """
%where_scalar_other: float32[16, 32] = where.ScalarOther(2.weight_mask, 2.weight, 0.0)
%input_1: float32[batch, 12] = input
%linear: float32[batch, 32] = linear(%input_1, 0.weight, 0.bias)
%relu: float32[batch, 32] = relu(%linear)
%linear_1: float32[batch, 16] = linear(%relu, %where_scalar_other, 2.bias)
%relu_1: float32[batch, 16] = relu(%linear_1)
%linear_2: float32[batch, 4] = linear(%relu_1, 4.weight, 4.bias)
return [%linear_2]
"""


@pytest.fixture
def file(tmp_path):
    start = sp.run(program_of(), ["weight-prune:sparsity=0.75,only=2"]).program
    Ticket.of(start, program_of(), record={"score": 0.5}).save(tmp_path / "a.ticket")
    return tmp_path / "a.ticket"


def test_masks_and_weights_are_put_on_a_model(file):
    other = program_of(3)
    result = sp.run(other, [f"apply-ticket:file={file}"])
    assert str(result.program) == GOLDEN.strip()
    assert torch.equal(result.program.parameters["0.weight"], program_of().parameters["0.weight"])
    (record,) = result.report["passes"]
    assert record["done"] == "75.00% of the weights in 1 layer pruned"
    assert record["ticket"]["score"] == 0.5


def test_masks_alone(file):
    other = program_of(3)
    program = sp.run(other, [f"apply-ticket:file={file},weights=no"]).program
    assert torch.equal(program.parameters["0.weight"], other.parameters["0.weight"])
    assert program.masks.keys() == {"2.weight"}


def test_a_ticket_is_transferred_to_another_task(file):
    program = sp.run(program_of(), [f"apply-ticket:file={file}"]).program
    result = sp.retrain(program, "fine-tune:steps=60it,learning_rate=0.1,audit=yes", Clusters())
    assert result.report["score"] > 0.6
    assert torch.equal(result.program.masks["2.weight"], program.masks["2.weight"])


def test_what_does_not_fit_is_refused(file, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        sp.run(program_of(), [f"apply-ticket:file={tmp_path / 'none.ticket'}"])
    other = sp.capture(torch.nn.Linear(3, 2), (torch.ones(1, 3),))
    with pytest.raises(PassError, match="another architecture"):
        sp.run(other, [f"apply-ticket:file={file}"])


def test_a_ticket_of_layers_says_which_are_gone(tmp_path):
    program = resnet()[1]
    result = sp.run(program, ["layer-prune"])
    (removed,) = result.report["passes"][0]["removed"]
    Ticket.of(result.program, program, removed=(removed,)).save(tmp_path / "l.ticket")
    (record,) = sp.run(program, [f"apply-ticket:file={tmp_path / 'l.ticket'}"]).report["passes"]
    assert record["done"] == f"{removed} taken out"
    pruned = sp.run(result.program, ["weight-prune:sparsity=0.5"]).program
    Ticket.of(pruned, program, removed=(removed,)).save(tmp_path / "b.ticket")
    (record,) = sp.run(program, [f"apply-ticket:file={tmp_path / 'b.ticket'}"]).report["passes"]
    assert record["done"].endswith(f"layers pruned, {removed} taken out")


def test_another_head_and_another_optimizer(file):
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 9))
    other = sp.capture(model, (torch.randn(4, 12),))
    with pytest.raises(PassError, match="transfer=yes leaves dense what does not fit"):
        sp.run(other, [f"apply-ticket:file={file}"])
    result = sp.run(other, [f"apply-ticket:file={file},transfer=yes"])
    (record,) = result.report["passes"]
    assert record["dense"] == ["4.weight", "4.bias"]
    assert record["done"].endswith("1 layer pruned, 4.weight, 4.bias not in the ticket and dense")
    spec = "fine-tune:steps=80it,optimizer=adamw,learning_rate=0.01,audit=yes"
    after = sp.retrain(result.program, spec, Clusters())  # with five answers that are never right
    assert after.report["score"] > 0.6
    assert torch.equal(after.program.masks["2.weight"], result.program.masks["2.weight"])


@pytest.mark.parametrize(("stretch", "source"), [("append", "0"), ("interpolate", "1")])
def test_a_deeper_network(tmp_path, stretch, source):
    def network(depth):
        torch.manual_seed(depth)
        return sp.capture(ResNet([depth], [4], channels=1, classes=4), (torch.randn(2, 1, 8, 8),))

    pruned = sp.run(network(2), ["weight-prune:sparsity=0.5,scope=layer"]).program
    Ticket.of(pruned, network(2)).save(tmp_path / "a.ticket")
    result = sp.run(network(3), [f"apply-ticket:file={tmp_path / 'a.ticket'},stretch={stretch}"])
    (record,) = result.report["passes"]
    assert record["from"]["layer1.2.conv1.weight"] == f"layer1.{source}.conv1.weight"
    assert record["sparsity"] == 0.5
    assert record["done"] == "50.00% of the weights in 8 layers pruned"
