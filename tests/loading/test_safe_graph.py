import copy
import json
import zipfile

import pytest
from helpers.hostile import save_exported

from sparsify.loading.safe_graph import LABEL, offences

LEAF = {"type": None, "context": None, "children_spec": []}


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    path = save_exported(tmp_path_factory.mktemp("graph") / "net.pt2")
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("net/models/model.json"))


@pytest.fixture
def document(honest):
    return copy.deepcopy(honest)


def graph(document):
    return document["graph_module"]["graph"]


def signature(document):
    return document["graph_module"]["module_call_graph"][0]["signature"]


def node(document, **changes):
    graph(document)["nodes"][0].update(changes)


def argument(document, value, name=""):
    graph(document)["nodes"][0]["inputs"].append({"name": name, "arg": value, "kind": 1})


def structure(kind, context, *children):
    return json.dumps([1, {"type": kind, "context": context, "children_spec": list(children)}])


def test_what_torch_writes_is_accepted(document):
    assert list(offences(document)) == []
    assert document["guards_code"], "the example should have a guard"
    assert "expr_str" in json.dumps(document), "the example should have a symbolic size"


def test_every_symbolic_operation_of_torch_is_accepted(document):
    from torch._export.serde.serialize import _SYM_OPS

    for operation in _SYM_OPS:
        node(document, target=f"{operation.__module__}.{operation.__name__}")
        assert list(offences(document)) == []


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.__and__.Tensor",
        "torch.ops.prims.convert_element_type.default",
        "torch.ops.sparsify.some_kernel.default",
        "torch.ops.aten.of_a_future_version.default",
        "torch.ops.higher_order.cond",
        "torch._functorch.predispatch._add_batch_dim",
    ],
)
def test_operators_on_tensors_are_accepted(document, target):
    node(document, target=target)
    assert list(offences(document)) == []


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torchvision.os.system",
        "torch.ops.load_library",
        "torch.ops.import_module",
        "torch.ops.aten.save.default",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten._sparse_coo_tensor_unsafe.default",
        "torch.ops.aten.add.overloads",
        "torch.ops.aten.add.__call__",
        "torch.ops.aten.__class__.mro",
        "torch.ops.mylib.shell.default",
        "torch.ops.higher_order.inline_asm_elementwise",
        "torch.ops.higher_order.print",
        "torch.load",
        "torch.hub.load",
        "_operator.call",
        "_operator.methodcaller",
        "_operator.attrgetter",
        "_operatorx.call",
        "math.factorial",
        "builtins.eval",
        "#extension:op",
        "",
    ],
)
def test_other_functions_are_refused(document, target):
    node(document, target=target)
    (problem,) = offences(document)
    assert "graph.nodes[0].target" in problem
    copied = copy.deepcopy(document)
    node(copied, target="torch.ops.aten.add.Tensor")
    argument(copied, {"as_operator": target})
    assert any("as_operator" in problem for problem in offences(copied))


SOURCE = "x=__import__('os').system('true')"
EDITS = {
    "a size": lambda d: graph(d)["sym_int_values"].update(a={"as_expr": {"expr_str": SOURCE}}),
    "a guard": lambda d: d.update(guards_code=[SOURCE]),
    "a node": lambda d: node(d, name=SOURCE),
    "a keyword": lambda d: argument(d, {"as_int": 1}, name=SOURCE),
    "an input": lambda d: graph(d)["inputs"].append({"as_tensor": {"name": SOURCE}}),
    "a symbol": lambda d: graph(d)["inputs"].append({"as_sym_int": {"as_name": SOURCE}}),
    "a value": lambda d: graph(d)["tensor_values"].update({SOURCE: {}}),
    "a constant input": lambda d: graph(d)["inputs"].append({"as_string": "' or print() or '"}),
    "a submodule": lambda d: argument(d, {"as_graph": {"name": 'a",print())or("', "graph": {}}}),
    "a nested graph": lambda d: argument(
        d, {"as_graph": {"name": "a", "graph": {"nodes": [{"target": "torch.load"}]}}}
    ),
    "a nested constant": lambda d: argument(d, {"as_graph": {"graph": {"inputs": [{"as_string": "'+print()+'"}]}}}),
    "a parameter": lambda d: d["graph_module"]["signature"]["input_specs"].append(
        {"parameter": {"parameter_name": '"+'}}
    ),
    "an argument": lambda d: signature(d).update(forward_arg_names=["x", f"mode={SOURCE}"]),
    "a custom object": lambda d: argument(d, {"as_custom_obj": {"name": "a", "class_fqn": "b"}}),
    "a range": lambda d: d["range_constraints"].update({"u99999999999": {"min_val": 0, "max_val": None}}),
    "a comment": lambda d: node(d, metadata={"stack_trace": 'File "a", line 1, in f\n  x\r    print()'}),
    "a docstring": lambda d: node(d, metadata={"stack_trace": '"""\nprint()'}),
    "hidden in metadata": lambda d: node(d, metadata={"a": {"name": SOURCE}}),
    "hidden by a key": lambda d: argument(
        d, {"as_string_to_argument": {"metadata": {"as_graph": {"name": SOURCE, "graph": {}}}}}
    ),
    "hidden by a name": lambda d: graph(d)["tensor_values"].update(
        metadata={"sizes": [{"as_expr": {"expr_str": SOURCE}}]}
    ),
    "an imported factory": lambda d: signature(d).update(
        out_spec=structure(
            "collections.defaultdict",
            {"default_factory_module": "os", "default_factory_name": "abort", "dict_context": []},
        )
    ),
    "an imported enumeration": lambda d: signature(d).update(
        out_spec=structure("builtins.dict", json.dumps([{"__enum__": True, "fqn": "antigravity:x", "name": "y"}]), LEAF)
    ),
    "an unknown container": lambda d: signature(d).update(out_spec=structure("my_project.Output", "null")),
    "a nested container": lambda d: signature(d).update(
        out_spec=structure("builtins.tuple", "null", {"type": "evil.X", "context": None, "children_spec": []})
    ),
    "a keyword of the call": lambda d: signature(d).update(
        in_spec=structure(
            "builtins.tuple",
            "null",
            {"type": "builtins.tuple", "context": "null", "children_spec": []},
            {"type": "builtins.dict", "context": json.dumps(["a b"]), "children_spec": [LEAF]},
        )
    ),
    "no structure": lambda d: signature(d).update(in_spec="{"),
    "an unknown field": lambda d: d.update(later="print('x')"),
}


@pytest.mark.parametrize("what", EDITS)
def test_texts_that_torch_could_run_are_refused(document, what):
    EDITS[what](document)
    assert list(offences(document))


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: argument(d, {"as_string": "Runtime assertion failed for expression u0 >= 1 on node 'ge'"}),
        lambda d: argument(d, {"as_float": "Infinity"}),
        lambda d: graph(d)["tensor_values"].update(metadata={"dtype": 7}, nodes={"dtype": 7}, target={"dtype": 7}),
        lambda d: signature(d).update(
            out_spec=structure("transformers.modeling_outputs.BaseModelOutput", '["logits"]')
        ),
        lambda d: signature(d).update(out_spec=structure("collections.namedtuple", "my.Named")),
        lambda d: node(d, metadata={"stack_trace": 'File "a", line 1, in f\n\tx = f(\'a\') # "quoted"'}),
    ],
)
def test_unusual_but_harmless_texts_are_accepted(document, edit):
    edit(document)
    assert list(offences(document)) == []


@pytest.mark.parametrize("text", ["a'", 'a"', "a\\", "a\nb", "a(b", "a#b", "a{b}", "a`b", "a;b"])
def test_a_label_cannot_leave_a_literal(text):
    assert not LABEL.fullmatch(text)
