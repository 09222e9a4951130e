"""A smaller program in the user's own model: it computes the same, or the model is left alone."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from helpers.writing import captured, differences, halved, is_untouched, look, zoo_entry
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.errors import CaptureError, ContractError, InputError, PassError
from sparsify.masking import masked
from sparsify.pass_manager import Context
from sparsify.passes.layer_prune import LayerPrune
from sparsify.passes.shrink import Shrink

KINDS = {"widths": ("channels", "stream", "conv-groups"), "heads": ("heads", "kv-groups"), "all": None}
WITH_HEADS = ["swin", "segformer", "vit", "bert", "distilbert", "gpt2", "llama", "qwen3", "mixtral", "t5", "whisper"]
NETWORKS = """
    bilinear-layer channel-norm dense-experts dense-net einsum-attention flatten-conv group-norm-net gru-classifier
    in-place inception index-buffer instance-norm-net learned-queries lstm-classifier pad-shortcut prelu shuffle-net
    size-scale split-cat standardized-conv state-space tied-language-model tile unet weight-norm-conv
"""
ATTENTIONS = ("rotary-attention", "self-attention", "fused-unbind", "fused-chunk", "multi-query")

ROTARY = (
    PassError,
    r"self_attn .*value_states = .*needs sizes to be equal",
)  # 5 // 2 pairs of channels, 10 // 2 values
REFUSED = {
    ("llama", "all"): ROTARY,
    ("qwen3", "all"): ROTARY,
    ("mixtral", "all"): ROTARY,
    # what the code has as a number
    ("pad-shortcut", "all"): (PassError, r"networks_conv.py:\d+: return self.tail\(torch.relu\(shortcut"),
    ("split-cat", "all"): (PassError, r"networks_odd.py:\d+: left, right = x.split\(\[6, 8\], 1\)"),
    ("state-space", "all"): (PassError, r"state = decay \* state"),
    ("tile", "all"): (PassError, r"body.0 \(Conv2d\)"),
    ("in-place", "all"): (ContractError, "takes channels by number"),
    ("rotary-attention", "heads"): (PassError, "return x.view"),
    ("rotary-attention", "all"): (PassError, "return x.view"),
    ("fused-unbind", "heads"): (PassError, r"reshape\(b, n, 3, 4, 6\)"),
    ("fused-unbind", "all"): (PassError, r"reshape\(b, n, 3, 4, 6\)"),
    ("fused-chunk", "heads"): (ContractError, "view .* was the first to change its shape"),
    ("fused-chunk", "all"): (PassError, "return x.view"),
    ("multi-query", "heads"): (PassError, "return x.view"),
    ("multi-query", "all"): (PassError, r"self.kv\(x\).split\(7, -1\)"),
    # what the code computes from a size
    ("learned-queries", "all"): (ContractError, "such as the scale of an attention"),
    ("size-scale", "all"): (ContractError, "derives a number from a size"),
    ("standardized-conv", "all"): (ContractError, r"self.weight\[0\].numel\(\)"),
    # torch wants as many channels in all heads together as there are in front of them
    ("self-attention", "heads"): (PassError, r"attentions.1 \(MultiheadAttention\)"),
    ("self-attention", "all"): (PassError, r"attentions.0 \(MultiheadAttention\).*3x embed_dim"),
}


def check(name, chosen):
    model, found, groups = zoo_entry(name)
    groups = [group for group in groups if KINDS[chosen] is None or group.kind in KINDS[chosen]]
    assert groups
    small = halved(found, groups)
    before = look(model)
    if (name, chosen) in REFUSED:
        kind, text = REFUSED[name, chosen]
        with pytest.raises(kind, match=re.compile(text, re.DOTALL)) as error:
            sp.write_back(small, model)
        assert str(error.value).endswith("program.module() is a module that computes the program.")
        assert is_untouched(before, model)
    else:
        sp.write_back(small, model)
        assert not is_untouched(before, model)
        assert max(differences(small, model)) <= 1
        state = model.state_dict()
        assert all(state[name].shape == value.shape for name, value in small.parameters.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_takes_all_groups_halved(name):
    check(name, "all")


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["widths", "heads"])
@pytest.mark.parametrize("name", WITH_HEADS)
def test_a_family_takes_some_groups_halved(name, chosen):
    check(name, chosen)


@pytest.mark.parametrize("name", NETWORKS.split())
def test_a_network_takes_all_groups_halved(name):
    check(name, "all")


@pytest.mark.parametrize("chosen", ["heads", "all"])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_an_attention_with_numbers_in_its_code_is_refused(name, chosen):
    check(name, chosen)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_language_model_generates(name):
    model, found, groups = zoo_entry(name)
    small = halved(found, [group for group in groups if group.kind != "head-dim"])
    sp.write_back(small, model)
    ids = small.example.kwargs["input_ids"]
    written = model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=True, pad_token_id=0, eos_token_id=None)
    expected = ids
    with torch.no_grad():
        for _ in range(6):
            following = model(input_ids=expected).logits[:, -1].argmax(-1)
            expected = torch.cat([expected, following[:, None]], 1)
    assert torch.equal(written, expected)


def test_rotary_heads_get_smaller_if_queries_keys_and_values_agree():
    model, found, groups = zoo_entry("llama")
    small = halved(found, groups, lambda group: 4 if "v_proj" in group.name else group.size // 2)
    sp.write_back(small, model)
    assert model.config.head_dim == 4
    assert [layer.self_attn.head_dim for layer in model.model.layers] == [4, 4]
    assert model.model.layers[0].self_attn.scaling == 10**-0.5
    assert max(differences(small, model)) <= 1


def test_a_configuration_makes_the_small_model_again():
    model, found, groups = zoo_entry("llama")
    small = halved(found, [group for group in groups if group.kind != "head-dim"])
    sp.write_back(small, model)
    again = type(model)(model.config).eval()
    again.load_state_dict(model.state_dict())
    assert max(differences(small, again)) <= 1


def test_layers_that_disagree_leave_the_configuration_alone():
    model, found, groups = zoo_entry("llama")
    sp.write_back(halved(found, [group for group in groups if group.name == "model.layers.1.mlp.gate_proj"]), model)
    assert model.config.intermediate_size == 80
    assert [layer.mlp.intermediate_size for layer in model.model.layers] == [80, 40]


class Net(nn.Module):
    """A norm, a frozen layer, a tied one, and a parameter that nothing uses."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 12)
        self.third = nn.Linear(12, 8, bias=False)
        self.third.weight = nn.Parameter(self.second.weight.detach().t().contiguous())
        self.again = nn.Linear(8, 12)
        self.again.weight = self.second.weight
        self.head, self.extra = nn.Linear(12, 3), nn.Parameter(torch.ones(8))
        self.second.requires_grad_(False)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = self.third(torch.sigmoid(self.second(x)))
        return self.head(torch.relu(self.again(x)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval(), torch.randn(5, 6)


def test_the_model_trains(net):
    model, x = net
    calls = []
    model.second.register_forward_hook(lambda *_: calls.append(1))
    found, groups = captured(model, x)
    model.train()
    sp.write_back(halved(found, groups), model)
    assert model.training
    assert model.norm.training
    calls.clear()
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(x).square().mean().backward()
    optimizer.step()
    assert calls == [1]
    assert model.first.weight.grad.shape == (4, 6)
    assert not torch.equal(model.first.weight, twin.first.weight)
    assert not model.second.weight.requires_grad
    assert torch.equal(model.second.weight, twin.second.weight)
    assert model.again.weight is model.second.weight
    assert model.extra.shape == (8,)


def test_the_program_keeps_its_own_tensors(net):
    model, x = net
    found, groups = captured(model, x)
    small = halved(found, groups)
    value = small.parameters["first.weight"].clone()
    sp.write_back(small, model)
    with torch.no_grad():
        model.first.weight.zero_()
    assert torch.equal(small.parameters["first.weight"], value)


def test_new_values_of_an_old_size_are_written(net):
    model, x = net
    program = sp.capture(model, (x,))
    trained = program.module()
    with torch.no_grad():
        trained.get_parameter("head.weight").mul_(2)
    head = model.head.weight
    sp.write_back(program.with_state(trained), model)
    assert model.head.weight is not head
    assert torch.equal(model.head.weight, 2 * head)


def test_writing_twice_changes_nothing(net):
    model, x = net
    found, groups = captured(model, x)
    small = halved(found, groups)
    sp.write_back(small, model)
    before = model.state_dict()
    sp.write_back(small, model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_masked_weights_become_zeros(net):
    model, x = net
    program = sp.capture(model, (x,))
    mask = torch.rand(3, 12) < 0.5
    sp.write_back(masked(program, {"head.weight": mask}), model)
    assert torch.equal(model.head.weight == 0, ~mask)
    assert not any("mask" in name for name in model.state_dict())


def test_a_bias_that_a_pass_made_is_written():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 3, bias=False))
    program = sp.capture(model.eval(), (torch.randn(2, 4),))
    kept = torch.arange(6) > 1
    gone = masked(program, {"0.weight": kept[:, None].expand(6, 4).contiguous(), "0.bias": kept})
    small = Shrink().run(gone, Context())
    sp.write_back(small, model)
    assert model[0].out_features == model[2].in_features == 4
    assert model[2].bias.shape == (3,)


def test_torchs_attention_takes_heads_and_stream_together():
    model, found, groups = zoo_entry("self-attention")
    sp.write_back(
        halved(found, [g for g in groups if g.name in ("stem", "attentions.0", "attentions.1/heads")]),
        model,
    )
    assert [attention.num_heads for attention in model.attentions] == [2, 2]
    assert [attention.head_dim for attention in model.attentions] == [6, 6]


class Attention(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.heads, self.scale = 4, scale
        self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 24)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("size", [1.0, 1e-3])  # of the inputs: small ones hide what the scale does
def test_an_attention_keeps_its_old_scale_or_refuses(size):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 24) * size
    for scale in (6**-0.5, None):
        model = Attention(scale).eval()
        found, groups = captured(model, x)
        small = halved(found, [group for group in groups if group.kind in ("heads", "head-dim")])
        if scale is not None:
            sp.write_back(small, model)
            assert (model.heads, model.qkv.out_features) == (2, 18)
            continue
        before = look(model)
        with pytest.raises(ContractError, match="such as the scale of an attention"):
            sp.write_back(small, model)
        assert is_untouched(before, model)


def test_a_program_without_some_layers_is_refused():
    model, found, _ = zoo_entry("gpt2")
    pruned = LayerPrune(count=1).run(found.program, Context())
    before = look(model)
    with pytest.raises(
        PassError, match=r"has no transformer\.h\..* more: a pass took out what used it, such as a layer"
    ):
        sp.write_back(pruned, model)
    assert is_untouched(before, model)


def test_a_program_of_something_else_is_refused(net):
    model, x = net
    program = sp.capture(nn.Sequential(nn.Linear(6, 3)).eval(), (x,))
    with pytest.raises(InputError, match=r"has 0\.weight, which this Net does not have"):
        sp.write_back(program, model)
    torch.manual_seed(0)
    wider = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)).eval()
    with pytest.raises(InputError, match=r"0\.weight is \[9, 6\] in the program, but \[8, 6\] in the model"):
        sp.write_back(sp.capture(wider, (x,)), nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval())
    with pytest.raises(CaptureError, match="does not run on the example"):
        sp.write_back(program, nn.Sequential(nn.Linear(7, 3)))


class Trained(nn.Module):
    """Bakes a size only where it is trained."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.second(x.view(-1, 6) if self.training else x)


def test_a_model_that_could_not_be_trained_any_more_is_refused():
    model = Trained().eval()
    found, groups = captured(model, torch.randn(2, 4))
    before = look(model)
    with pytest.raises(PassError, match=r"lost something: Captured in evaluation mode, because .*same reduction dim"):
        sp.write_back(halved(found, groups), model)
    assert is_untouched(before, model)


def test_only_a_program_goes_into_a_module():
    program = sp.capture(nn.Linear(3, 2), (torch.randn(2, 3),))
    with pytest.raises(InputError, match=r"write_back takes a program and the module .*, not Program and str"):
        sp.write_back(program, "model")
    with pytest.raises(InputError, match="not Linear and Linear"):
        sp.write_back(nn.Linear(3, 2), nn.Linear(3, 2))
