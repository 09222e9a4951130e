import torch
from helpers.residual import wired
from helpers.stats import measure, weight_stats
from helpers.zoo import NETWORKS
from torch import nn

import sparsify as sp
from sparsify.criteria.rnn_jacobian import RnnJacobian


def test_formula():
    stats = weight_stats([[1.0, -2.0], [0.0, 3.0]], temporal_jacobian=[[2.0, 1.0], [5.0, -1.0]])
    assert RnnJacobian().weight(stats).tolist() == [[2.0, 2.0], [0.0, 3.0]]


def test_weights_that_the_memory_hangs_on_score_highest():
    layer = nn.RNN(2, 3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_hh_l0.copy_(torch.diag(torch.tensor([0.9, 0.1, 0.01])))
    _, program = wired(lambda s, x: s.head(s.a(x)[0][-1]), (torch.randn(4, 5, 2),), a=layer, head=nn.Linear(3, 2))
    measured = measure(program, RnnJacobian.needs)
    scores = RnnJacobian().weight(measured.of_weight("a.weight_hh_l0"))
    # h stays zero, so that χ is ‖W‖² / 3 and the score 2 θ² / 3
    torch.testing.assert_close(scores, 2 * layer.weight_hh_l0.detach().square() / 3)
    assert not measured.knows("head.weight", RnnJacobian.needs)


def test_a_pass_can_be_restricted_to_the_recurrent_weights():
    model, args, _ = NETWORKS["lstm-classifier"]()
    passes = ["weight-prune:sparsity=0.5,criterion=rnn-jacobian,only=lstm.weight*"]
    masks = sp.run(sp.capture(model, args), passes).program.masks
    assert set(masks) == {name for name in dict(model.named_parameters()) if name.startswith("lstm.weight")}
    assert sum(int(mask.sum()) for mask in masks.values()) == sum(mask.numel() for mask in masks.values()) // 2
