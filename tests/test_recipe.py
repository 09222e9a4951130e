from pathlib import Path

import pytest
from helpers.command import write_model

from sparsify.errors import InputError, UsageError
from sparsify.job import Job
from sparsify.recipe import Recipe, read_recipe

FULL = Recipe(("layer-prune:count=2", "layer-prune"), "fine-tune:steps=5it", "digits", "1x1x8x8", 7)


def written(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_is_read(tmp_path):
    path = written(
        tmp_path,
        "passes:\n  - layer-prune:count=2\n  - layer-prune\nretrain: fine-tune:steps=5it\n"
        "task: digits\ninputs: 1x1x8x8\nseed: 7\n",
    )
    assert read_recipe(path) == FULL


@pytest.mark.parametrize("text", ["passes: layer-prune\n", "passes: [layer-prune]\n", '{"passes": ["layer-prune"]}'])
def test_one_pass_needs_no_list(tmp_path, text):
    assert read_recipe(written(tmp_path, text)) == Recipe(("layer-prune",))


def test_what_is_left_empty_is_not_given(tmp_path):
    assert read_recipe(written(tmp_path, "passes:\nretrain:\ntask: ~\nseed: null\n")) == Recipe()


def test_a_recipe_survives_its_own_mapping():
    assert Recipe.from_dict(FULL.as_dict()) == FULL
    assert Recipe.from_dict(Recipe().as_dict()) == Recipe()
    assert Recipe(("a",)).as_dict() == {"passes": ["a"], "seed": 0}


def test_the_options_say_the_same():
    assert FULL.options() == [
        *("--pass", "layer-prune:count=2", "--pass", "layer-prune", "--retrain", "fine-tune:steps=5it"),
        *("--task", "digits", "--inputs", "1x1x8x8", "--seed", "7"),
    ]
    assert Recipe().options() == []


def test_what_is_given_wins_over_the_file():
    given = Recipe(("layer-prune:count=3",), task="mine.py:make")
    assert given.over(FULL) == Recipe(given.passes, FULL.retrain, "mine.py:make", FULL.inputs, FULL.seed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\npases: [layer-prune]\n", r"line 2: a recipe has no 'pases' \(did you mean 'passes'\?\)\. Keys: "),
        ("seed: 1\nseed: 2\n", "line 2: seed is given twice"),
        ("task: digits\nseed: one\n", "line 2: seed must be a whole number, not 'one'"),
        ("task: [digits]\n", "line 1: task must be a single value"),
        ("passes:\n  - layer-prune\n  - [layer-prune]\n", "line 3: write a spec such as"),
        ("passes:\n  - layer-prune\n  - layer-prun\n", "line 3: There is no pass 'layer-prun'"),
        ("passes:\n  - layer-prune:count=two\n", "line 2: layer-prune: count='two' is not a whole number"),
        ("\n\nretrain: fine-tun\n", "line 3: There is no retraining method 'fine-tun'"),
        ("[1, 2]: x\n", "line 1: a recipe has no "),
        ("- layer-prune\n", "it holds a list"),
        ("layer-prune\n", "it holds a single value"),
        ("", "it holds nothing"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read_recipe(written(tmp_path, text))


def test_files_that_are_no_recipe(tmp_path):
    with pytest.raises(InputError, match="is not YAML"):
        read_recipe(written(tmp_path, "passes: [layer-prune\n"))
    with pytest.raises(InputError, match=r"gone.yaml cannot be read: No such file"):
        read_recipe(tmp_path / "gone.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\x80\x02\xff")
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(binary)


def test_a_recipe_builds_no_objects(tmp_path):
    with pytest.raises(UsageError, match="line 1: task must be a single value"):
        read_recipe(written(tmp_path, "task: !!python/object/apply:os.system [id]\n"))


def test_options_may_be_lines_of_their_own(tmp_path):
    text = """
passes:
  - layer-prune:count=2
  - weight-prune:
      sparsity: 0.5
      protect: [head, "*.norm"]
  - shrink:
retrain:
  lth:
    rounds: 3
    controls: [reinit, random]
"""
    recipe = read_recipe(written(tmp_path, text))
    assert recipe.passes == ("layer-prune:count=2", "weight-prune:sparsity=0.5,protect=head,*.norm", "shrink")
    assert recipe.retrain == "lth:rounds=3,controls=reinit,random"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retrain:\n  lth:\n    rounds: 3\n    rat: 0.5\n", r"line 4: lth has no option 'rat' \(did you mean 'rate'"),
        ("retrain:\n  lth:\n    rounds: 3\n    rate: 1.5\n", r"line 4: lth: rate=1.5 is not between 0 and 1"),
        ("retrain:\n  lth:\n    rounds: many\n", r"line 3: lth: rounds='many' is not a whole number"),
        ("retrain:\n  lht:\n    rounds: 3\n", r"line 2: There is no retraining method 'lht' \(did you mean 'lth'"),
        ("retrain:\n  lth:\n    controls:\n      a: b\n", "line 4: controls must be a value or a list of values"),
        ("retrain:\n  lth: [1]\n", "line 2: write a spec"),
        ("retrain:\n  lth:\n  dst:\n", "line 2: only one method is allowed under retrain"),
        ("retrain:\n  - lth\n  - dst\n", "line 2: only one method is allowed under retrain"),
        ("passes:\n  - a: 1\n    b: 2\n", "line 2: write a spec"),
        (
            "retrain:\n  lth:\n    rounds: 3\n    steps: 4it\n    pattern: 2:4\n",
            "line 5: lth: pattern=2:4 takes rounds=1",
        ),
        (
            "retrain:\n  dst:\n    sparsity: 0.5\n    every: 4it\n    method: static\n",
            "line 4: dst: method=static has no every",
        ),
        ("retrain:\n  dst:\n    sparsity: 0.5\n    method: sr-ste\n", "line 3: dst: with method=sr-ste the pattern"),
        ("retrain:\n  lth:\n    rewind: 3it\n    when: init\n", "line 3: lth: when=init has nothing to rewind"),
        ("passes:\n  - weight-prune:\n      first: dense\n", "line 2: weight-prune needs sparsity="),
        ("retrain: [lth]\n", "line 1: only one method"),
        ("seed: 1\nretrain: dst:method=rigl,sparsity=0.5,pattern=1:4\n", "line 2: dst: method=rigl has no pattern"),
        ("retrain:\n  lth:\n    rounds: 3\n    rounds: 4\n", "line 4: rounds is given twice"),
        ("retrain:\n  lth:\n    score_every: 3it\n    score-every: 4it\n", "line 4: score_every is given twice"),
    ],
)
def test_the_line_of_a_wrong_option_is_named(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read_recipe(written(tmp_path, text))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("task: digitz", r"line 2: There is no built-in task 'digitz' \(did you mean 'digits'"),
        ("task: digits:batch=3", r"line 2: digits has no option 'batch'"),
        ("task: gone.py:make", "line 2: The task file gone.py does not exist"),
        ("inputs: 1xtwo", "line 2: The input spec '1xtwo' cannot be read"),
        ("inputs: gone.npz", "line 2: The input file gone.npz does not exist"),
    ],
)
def test_what_shows_only_in_use_is_named_with_its_line(tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(written(tmp_path, f"retrain: fine-tune\n{line}\n" + "task: digits\n" * ("inputs" in line)))
    with pytest.raises((InputError, UsageError), match=message):
        Job(Path("never opened.pt"), recipe).run()
    over = Recipe(task="digits:batch=2", inputs="1xthree").over(recipe)
    with pytest.raises(UsageError, match=r"^(The input spec '1xthree'|digits has no option)"):
        Job(Path("never opened.pt"), over).run()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("fine-tune:warmup=9it,steps=4it", "Training: warmup=9it is longer than steps=4it"),
        ("lth:rewind=4it,steps=4it", "lth: rewind=4it is not before the end"),
        ("lth:unit=channels", "lth: unit=channels counts channels, and"),
        ("fine-tune:precision=fp16", "Training: precision=fp16 needs a GPU"),
    ],
)
def test_conflicts_that_show_only_in_use_name_the_line_of_the_retraining(tmp_path, method, message):
    passes = "passes: weight-prune:sparsity=0.5\n" if "channels" in method else "\n"
    recipe = read_recipe(written(tmp_path, f"{passes}retrain: {method}\ntask: digits\n"))
    model = write_model(tmp_path)
    with pytest.raises(UsageError, match=f"recipe.yaml, line 2: {message}"):
        Job(model, recipe, work=tmp_path / "w").run()
    over = Recipe(retrain=method).over(recipe)
    with pytest.raises(UsageError, match=f"^{message}"):
        Job(model, over, work=tmp_path / "w").run()
