import dataclasses
import json

import pytest
import torch
from helpers import passes
from helpers.command import small_program

from sparsify.errors import ContractError, PassError, UsageError
from sparsify.pass_manager import Context, Contract, Event, Pass, PassManager
from sparsify.task import resolve

CONV = r"made by .*demo_net.py:\d+: .*conv"  # the line of the user's model


@pytest.fixture(scope="module")
def program():
    return small_program()


def test_events_tell_what_happens_in_order(program):
    events: list[Event] = []
    specs = ["layer-prune:criterion=magnitude,blocks=layer1.0", "layer-prune"]
    after = PassManager(specs, events.append).run(program)
    assert [(event.kind, event.index) for event in events] == [
        *(("started", 0), ("transformed", 0), ("verified", 0)),
        *(("started", 1), ("transformed", 1), ("verified", 1)),
    ]
    assert [event.spec for event in events[::3]] == ["layer-prune:blocks=layer1.0", "layer-prune"]
    assert events[0].program is program
    assert events[2].program is events[1].program is events[3].program
    assert events[5].program is after
    assert events[0].seconds == 0 < events[1].seconds
    assert events[2].seconds > 0
    assert events[1].record == {"removed": ["layer1.0"], "parameters_removed": 2 * 4 * 4 * 9 + 2 * 2 * 4}
    assert events[2].record == {"contract": "lossy", "outputs": ["float32[batch, 10]"]}
    assert json.dumps([event.record for event in events])
    assert after.history == ("layer-prune:blocks=layer1.0", "layer-prune")
    assert program.history == ()


def test_specs_are_made_canonical_before_anything_runs():
    manager = PassManager(["layer-prune:criterion=magnitude,count=2", "layer-prune: batches=8"])
    assert manager.specs == ("layer-prune:count=2", "layer-prune")
    assert [type(item).__name__ for item in manager.passes] == ["LayerPrune", "LayerPrune"]
    assert manager.passes[0].count == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("layer-prune:count=two", r"count='two' is not a whole number\.$"),
        ("layer-prune:cuont=2", r"no option 'cuont' \(did you mean 'count'\?\)"),
        ("layer-prune:count=1,sparsity=0.5", "one of count, sparsity and blocks, not count and sparsity"),
        ("layer-prune:granularity=channel", "is not one of layer, sublayer"),
        ("layer-prune:criterion=magnitde", r"no criterion 'magnitde' \(did you mean 'magnitude'"),
        ("layer-prune:count=1,count=2", "'count' is given twice"),
        ("layerprune", r"no pass 'layerprune' \(did you mean 'layer-prune'"),
    ],
)
def test_options_are_typed(spec, message):
    with pytest.raises(UsageError, match=message):
        PassManager(["layer-prune", spec])


def test_no_passes_change_nothing(program):
    assert PassManager([]).run(program) is program


def test_a_pass_gets_task_and_seed_and_tells_the_report(program, monkeypatch):
    seen: list[Context] = []
    passes.install(monkeypatch, remember=passes.Remember(seen))
    task, events = resolve("digits"), []
    PassManager(["remember", "remember"], events.append).run(program, task=task, seed=5)
    assert [(context.task, context.seed) for context in seen] == [(task, 5)] * 2
    assert seen[0].record is not seen[1].record
    assert events[1].record == {"answer": 42}
    assert events[2].record == {"contract": "exact", "largest_difference": 0.0}


BROKEN = {  # spec → pass, error, what the message says after the spec
    "dangling": (passes.DanglingParameter(), PassError, "The program holds left.over, which no node reads"),
    "shape": (passes.Edit(passes.wrong_shape), PassError, rf"The shapes do not fit at conv2d \(.*\), {CONV}"),
    "infinite": (
        passes.Edit(passes.not_a_number),
        PassError,
        r"The output is not finite\. The first node .* is relu .*made by",
    ),
    "cycle": (
        passes.Edit(passes.cycle),
        PassError,
        "The graph is malformed: Argument 'relu_1' of Node 'relu' was used",
    ),
    "inexact": (
        passes.ExactEdit(passes.other_values),
        ContractError,
        r"The outputs differ by .*\. The first node that differs is relu \(.*\), made by .*demo_net.py:\d+: .*relu",
    ),
    "fewer": (
        passes.Edit(passes.fewer_outputs),
        ContractError,
        r"The outputs changed from \['float32\[batch, 10\]'\] to \['float32\[batch\]'\]",
    ),
    "refusal": (passes.Refusal(), PassError, "It cannot be done"),
    "crash": (passes.Crash(ZeroDivisionError("by zero")), PassError, "failed: ZeroDivisionError: by zero"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_pass_that_fails_is_named_and_leaves_the_program_as_it_was(name, program, monkeypatch):
    broken, kind, message = BROKEN[name]
    passes.install(monkeypatch, **{name: broken})
    text, values = str(program), {key: value.clone() for key, value in program.parameters.items()}
    with pytest.raises(kind, match=f"^{name}:? {message}") as caught:
        PassManager(["layer-prune", name]).run(program)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert str(program) == text
    assert all(torch.equal(value, program.parameters[key]) for key, value in values.items())


def test_without_verification_a_broken_program_comes_through(program, monkeypatch):
    passes.install(monkeypatch, inexact=BROKEN["inexact"][0])
    events = []
    after = PassManager(["inexact"], events.append, verify=False).run(program)
    assert after.history == ("inexact",)
    assert [event.kind for event in events] == ["started", "transformed"]


def test_an_interruption_is_not_an_error_of_the_pass(program, monkeypatch):
    passes.install(monkeypatch, crash=passes.Crash(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        PassManager(["crash"]).run(program)


def test_a_pass_says_what_it_promises():
    assert {contract.value for contract in Contract} == {"exact", "lossy"}
    with pytest.raises(TypeError):
        Pass()
    assert [field.name for field in dataclasses.fields(Context)] == ["task", "seed", "record", "proofs"]
