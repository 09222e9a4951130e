"""Seven families of transformers, small and with random weights: found, pruned, trained and exported."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import sparsify as sp

transformers = pytest.importorskip("transformers")
ort = pytest.importorskip("onnxruntime")

SEED = 0


def build(name):
    """Return a model of the family and its keyword inputs."""
    torch.manual_seed(SEED)
    pixels, ids = {"pixel_values": torch.randn(2, 3, 32, 32)}, {"input_ids": torch.randint(0, 99, (2, 12))}
    text = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
            "intermediate_size": 64}  # fmt: skip
    t = transformers
    makers = {
        "resnet-basic": lambda: (t.ResNetForImageClassification(t.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 24], depths=[2, 2, 2], layer_type="basic", num_labels=5)), pixels),
        "bert": lambda: (t.BertForSequenceClassification(t.BertConfig(**text, max_position_embeddings=64)), ids),
        "gpt2": lambda: (t.GPT2LMHeadModel(t.GPT2Config(
            vocab_size=99, n_embd=32, n_layer=3, n_head=4, n_positions=64, use_cache=False, bos_token_id=0,
            eos_token_id=1)), ids),
        "llama": lambda: (t.LlamaForCausalLM(t.LlamaConfig(
            **text, num_key_value_heads=2, max_position_embeddings=64, use_cache=False)), ids),
        "vit": lambda: (t.ViTForImageClassification(t.ViTConfig(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=32,
            patch_size=8)), pixels),
        "convnext": lambda: (t.ConvNextForImageClassification(t.ConvNextConfig(
            hidden_sizes=[8, 16], depths=[2, 2], num_stages=2, drop_path_rate=0.1)), pixels),
        "mobilenetv2": lambda: (t.MobileNetV2ForImageClassification(t.MobileNetV2Config(
            depth_multiplier=0.35)), pixels),
    }  # fmt: skip
    model, inputs = makers[name]()
    return model.eval(), inputs


def numbered(prefix, numbers):
    return [f"{prefix}.{i}" for i in numbers]


class Skip(nn.Module):
    """Stands for a removed layer, whatever it is called with."""

    def forward(self, x, *args, **kwargs):
        return x


class Zero(nn.Module):
    """Stands for a removed branch."""

    def __init__(self, wrap=lambda x: x):
        super().__init__()
        self.wrap = wrap

    def forward(self, x=None, *args, hidden_states=None, **kwargs):
        return self.wrap(torch.zeros_like(hidden_states if x is None else x))


def replaced(path, module):
    def edit(model):
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, module)

    return edit


def pair(x):
    return x, None


def only_norms(layer):
    """BERT's sublayers keep the norm behind their sum."""

    def edit(model):
        attention = model.bert.encoder.layer[layer].attention
        attention.forward = lambda hidden_states, *args, **kwargs: (attention.output.LayerNorm(hidden_states), None)

    return edit


def bert_mlp(layer):
    def edit(model):
        module = model.bert.encoder.layer[layer]
        module.feed_forward_chunk = module.output.LayerNorm.forward

    return edit


FAMILIES = {
    "resnet-basic": SimpleNamespace(
        removable=["resnet.encoder.stages.0.layers.0", "resnet.encoder.stages.0.layers.1",
                   "resnet.encoder.stages.1.layers.1", "resnet.encoder.stages.2.layers.1"],
        refused=["resnet.encoder.stages.1.layers.0", "resnet.encoder.stages.2.layers.0"],
        sublayers={(path := "resnet.encoder.stages.1.layers.1.layer"): replaced(path, Zero())},
    ),
    "bert": SimpleNamespace(
        removable=numbered("bert.encoder.layer", range(3)), refused=[],
        sublayers={"bert.encoder.layer.1.attention": only_norms(1),
                   "bert.encoder.layer.1.intermediate+output": bert_mlp(1)},
    ),
    "gpt2": SimpleNamespace(
        removable=numbered("transformer.h", range(3)), refused=[],
        sublayers={"transformer.h.1.attn": replaced("transformer.h.1.attn", Zero(pair)),
                   "transformer.h.1.mlp": replaced("transformer.h.1.mlp", Zero())},
    ),
    "llama": SimpleNamespace(
        removable=numbered("model.layers", range(3)), refused=[],
        sublayers={"model.layers.1.self_attn": replaced("model.layers.1.self_attn", Zero(pair)),
                   "model.layers.1.mlp": replaced("model.layers.1.mlp", Zero())},
    ),
    "vit": SimpleNamespace(
        removable=numbered("vit.layers", range(3)), refused=[],
        sublayers={"vit.layers.1.attention": replaced("vit.layers.1.attention", Zero(pair)),
                   "vit.layers.1.mlp": replaced("vit.layers.1.mlp", Zero())},
    ),
    "convnext": SimpleNamespace(
        removable=[f"convnext.encoder.stages.{s}.layers.{i}" for s in range(2) for i in range(2)], refused=[],
        sublayers={"convnext.encoder.stages.1.layers.0": replaced("convnext.encoder.stages.1.layers.0", Skip())},
    ),
    "mobilenetv2": SimpleNamespace(
        removable=numbered("mobilenet_v2.layer", [1, 3, 4, 6, 7, 8, 10, 11, 13, 14]), refused=[],
        sublayers={"mobilenet_v2.layer.6": replaced("mobilenet_v2.layer.6", Skip())},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    model, inputs = build(request.param)
    spec = FAMILIES[request.param]
    return SimpleNamespace(
        name=request.param, model=model, inputs=inputs, program=sp.capture(model, (), inputs), **vars(spec)
    )


def first_output(module, inputs):
    with torch.no_grad():
        found = module(**inputs)
    return found["logits"] if not isinstance(found, torch.Tensor) else found


def other_batch(inputs, size):
    return {
        name: torch.cat([value] * size)[:size].flip(-1) if value.is_floating_point() else value.repeat(size, 1)[:size]
        for name, value in inputs.items()
    }


@pytest.mark.parametrize("batch", [1, 3])
def test_capture_gives_the_same_bits(family, batch):
    assert family.program.dynamic_batch
    assert family.program.notes == ()
    x = other_batch(family.inputs, batch)
    assert torch.equal(first_output(family.program.module(), x), first_output(family.model, x))


def test_the_right_blocks_are_found(family):
    found = sp.blocks(family.program)
    assert [block.name for block in found if block.removable] == family.removable
    assert [block.name for block in found if not block.removable] == family.refused
    for block in found:
        own = {name for name, _ in family.model.named_parameters() if name.startswith(f"{block.name}.")}
        assert set(block.parameters) == {name for name in own if not (block.reason and ".shortcut." in name)}
    sublayers = {block.name for block in sp.blocks(family.program, "sublayer")}
    assert set(family.sublayers) <= sublayers
    assert {name for block in found for name in block.sublayers} == sublayers


def skipped(family, edit):
    model = copy.deepcopy(family.model)
    edit(model)
    return model


def test_pruned_equals_a_model_with_those_layers_skipped(family):
    chosen = [family.removable[0], family.removable[-1]]
    program = sp.run(family.program, [f"layer-prune:blocks={','.join(chosen)}"]).program
    gone = set(family.program.parameters) - set(program.parameters)
    assert gone == {n for n in family.program.parameters if n.startswith(tuple(f"{name}." for name in chosen))}
    model = copy.deepcopy(family.model)
    for name in chosen:
        replaced(name, Skip())(model)
    for size in (2, 3):
        x = other_batch(family.inputs, size)
        assert torch.equal(first_output(program.module(), x), first_output(model, x))


def test_pruned_equals_a_model_with_that_sublayer_skipped(family):
    for name, edit in family.sublayers.items():
        program = sp.run(family.program, [f"layer-prune:blocks={name},granularity=sublayer"]).program
        model = skipped(family, edit)
        assert torch.equal(first_output(program.module(), family.inputs), first_output(model, family.inputs))


def test_a_step_of_training_after_pruning(family):
    program = sp.run(family.program, ["layer-prune:count=1"]).program
    module = program.module(training=True)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    found = module(**family.inputs)
    (found["logits"] if not isinstance(found, torch.Tensor) else found).square().mean().backward()
    missing = [name for name, p in module.named_parameters() if p.grad is None]
    assert missing == []
    optimizer.step()
    assert all(bool(torch.isfinite(value).all()) for value in module.parameters())


def test_onnx_computes_the_same(family, tmp_path):
    program = sp.run(family.program, ["layer-prune:count=1"]).program
    path = tmp_path / "small.onnx"
    sp.export_onnx(program, path)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for size in (1, 3):
        x = other_batch(family.inputs, size)
        found = session.run(None, {name: value.numpy() for name, value in x.items()})[0]
        expected = first_output(program.module(), x)
        # other kernels add in another order: float32 rounding of a few layers
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)
