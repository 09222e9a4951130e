import torch

import sparsify as sp
from sparsify.operators import OPERATORS


def test_torch_knows_all_operators():
    sp.register_operators()
    known = {name.removeprefix("sparsify::").partition(".")[0] for name in torch._C._dispatch_get_all_op_names()
             if name.startswith("sparsify::")}  # fmt: skip
    assert known >= {*OPERATORS, "orthogonal", "parameter", "seeded"}
