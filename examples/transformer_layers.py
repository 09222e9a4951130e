"""Drop the least useful layers of a transformer from Python, and write ONNX.

    pip install transformers
    python examples/transformer_layers.py

The weights are random here, so that nothing has to be downloaded; put `from_pretrained` in the place of the
configuration for a real one.
"""

from __future__ import annotations

import torch
from transformers import BertConfig, BertForSequenceClassification

import sparsify as sp

config = BertConfig(hidden_size=128, num_hidden_layers=6, num_attention_heads=4, intermediate_size=512)
model = BertForSequenceClassification(config).eval()
tokens = torch.randint(0, config.vocab_size, (4, 64))

program = sp.capture(model, kwargs={"input_ids": tokens})
for block in sp.blocks(program):
    print(block.name, "removable" if block.removable else block.reason)

# block-influence looks at activations only: the example is its data, no labels are needed
result = sp.run(program, ["layer-prune:count=2,criterion=block-influence"])
print("removed:", result.report["passes"][0]["removed"])
print("parameters:", sp.cost(program).parameters, "->", sp.cost(result.program).parameters)

checked = sp.export_onnx(result.program, "bert-4-layers.onnx")
print("wrote bert-4-layers.onnx; onnxruntime differs by at most", checked["largest_difference"])

small = result.program.module(training=True)  # an ordinary torch.nn.Module to go on training with
print(type(small(input_ids=tokens)).__name__, "with", small(input_ids=tokens).logits.shape)
