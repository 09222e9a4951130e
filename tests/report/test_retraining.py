"""What a retraining prints: its rounds beside the controls, and how the masks moved."""

import io

from rich.console import Console

from sparsify.report.retraining import print_retraining
from sparsify.tickets.verdict import verdict


def printed(record):
    out = io.StringIO()
    print_retraining(Console(file=out, width=120), record)
    return out.getvalue()


def entry(number, score, density, control=None, *, best=None, start="dense"):
    network = control or ("ticket" if number else start)
    return {"round": number, "network": network, "score": score, "density": density, "nonzero_share": density,
            "macs_share": 1.0, "first_steps_to_best": best, **({"control": control} if control else {})}  # fmt: skip


def record(rounds, controls=(), margin=0.01):
    known = {"rounds": rounds, **({"controls": controls} if controls else {})}
    return {**known, **verdict(rounds, controls, margin)}


def test_rounds_and_controls_are_rows():
    rounds = [entry(0, 0.98, 1.0), entry(1, 0.985, 0.5), entry(2, 0.9, 0.25)]
    lines = [line.split() for line in printed(record(rounds, [entry(2, 0.8, 0.25, "random")])).splitlines()]
    assert lines[0] == ["round", "network", "density", "non-zeros", "MACs", "score"]
    assert [line[:3] for line in lines[1:5]] == [
        ["0", "dense", "100%"], ["1", "ticket", "50.0%"], ["2", "ticket", "25.0%"], ["2", "random", "25.0%"]
    ]  # fmt: skip
    assert [" ".join(line) for line in lines[5:]] == [
        "winning tickets (at most 0.01 below the 0.9800 of the dense network): round 1",
        "no control was trained for round 1: controls_at=all trains them",
    ]


def test_a_ticket_that_is_gone_on_with_is_the_start():
    text = printed(record([entry(0, 0.96, 0.3, start="start"), entry(1, 0.9, 0.1)]))
    assert text.splitlines()[1].split()[:4] == ["0", "start", "30.0%", "30.0%"]
    assert "no ticket wins: none is at most 0.01 below the 0.9600 of the start\n" in text
    assert "dense" not in text


def test_controls_that_do_as_well_are_named_for_losing_rounds_too():
    rounds = [entry(0, 0.98, 1.0), entry(1, 0.975, 0.5), entry(2, 0.9, 0.25)]
    controls = [entry(1, 0.966, 0.5, "reinit"), entry(1, 0.96, 0.5, "random"), entry(2, 0.91, 0.25, "random")]
    lines = printed(record(rounds, controls)).splitlines()
    assert lines[-1] == "controls that are as good as the ticket of their round: reinit of round 1, random of round 2"


def test_the_step_of_the_best_loss_is_a_column_and_losing_is_said():
    text = printed(record([entry(0, 0.98, 1.0, best=40), entry(1, 0.9, 0.5, best=20)]))
    assert "best at step" in text
    assert "40" in text
    assert "no ticket wins: none is at most 0.01 below the 0.9800" in text
    assert "at their best" not in text


def test_how_fast_winning_tickets_learn_is_said():
    rounds = [entry(0, 0.98, 1.0, best=40), entry(1, 0.98, 0.5, best=40), entry(2, 0.98, 0.3, best=60)]
    assert "\nof them at their best after at most as many steps as the dense network (40): round 1\n" in printed(
        record(rounds)
    )
    assert "\nnone of them is at their best after at most as many steps as the dense network (40)\n" in printed(
        record([rounds[0], rounds[2]])
    )
    assert printed(record(rounds)).endswith("no control was trained for rounds 1, 2: controls= names some\n")


def test_masks_that_moved():
    known = {"itop": 0.25, "exchanges": 3, "kept": 100, "wanted": 100, "masked_weights": 1000, "dense": "",
             "rule": {"method": "rigl", "every": "4it", "alpha": 0.3, "until": 0.75}}  # fmt: skip
    text = "rigl with every=4it, alpha=0.3, until=0.75\nthe masks changed 3 times; "
    text += "25.0% of the weights were in use at some time\n"
    assert printed(known) == text
    few = "100 of 1,000 weights are kept, and 120 were asked for: every row keeps a whole number of them\n"
    assert printed({**known, "wanted": 120}) == text + few
    assert printed({**known, "rule": {"method": "static"}}).startswith("static\n")
    underneath = "this training was dense underneath: it cost what a dense one costs, or nearly\n"
    assert printed({**known, "wanted": None, "dense": "dense underneath"}) == text + underneath


def kept(**options):
    layers = {"0.weight": {"kept": 20, "weights": 1000}, "2.weight": {"kept": 80, "weights": 200}}
    return {"criterion": "synflow", "unit": "weights", "scored": 100, "kept": 100, "masked_weights": 1200,
            "wanted": 100, "layers": layers, "empty": [], "removed": [], "groups": {}, **options}  # fmt: skip


def test_what_pruning_at_initialization_kept():
    text = "synflow in 100 rounds before the training: 100 of 1,200 weights in 2 layers are kept (8.3%); "
    text += "most of 2.weight (40.0%), least of 0.weight (2.0%)\n"
    assert " ".join(printed(kept()).split()) == text.strip()
    assert printed(kept(scored=1)).startswith("synflow before the training: 100 of")
    assert printed(kept(wanted=90)).endswith("90 were asked for: tiles are kept as a whole, and masks that there were "
                                             "stay\n")  # fmt: skip
    assert printed(kept(empty=["4.weight"])).endswith("nothing is left of 4.weight: no signal passes there\n")
    alike = {name: {"kept": 10, "weights": 100} for name in ("0.weight", "2.weight")}
    assert "most of" not in printed(kept(layers=alike))
    layers = kept(unit="layers", scored=1, removed=["layer1.0", "layer2.1"], layers={}, kept=0, masked_weights=0)
    assert printed(layers) == "synflow before the training: 2 layers removed: layer1.0, layer2.1\n"
    channels = printed(kept(unit="channels", scored=5, groups={"0": "32 -> 16"}, wanted=None))
    assert channels.startswith("synflow in 5 rounds before the training: 0 32 -> 16\n100 of 1,200 weights")


def test_a_ticket_that_is_alone_has_no_round():
    rounds = [entry(1, 0.9, 0.02)]
    lines = printed(record(rounds, [entry(1, 0.905, 1.0, "dense"), entry(1, 0.7, 0.02, "random")])).splitlines()
    assert lines[0].split() == ["network", "density", "non-zeros", "MACs", "score"]
    assert [line.split()[0] for line in lines[1:4]] == ["ticket", "dense", "random"]
    assert lines[4:] == ["the ticket wins: it is at most 0.01 below the 0.9050 of the dense network",
                         "no control is as good: none is at most 0.01 below it"]  # fmt: skip
    worse = printed(record(rounds, [entry(1, 0.95, 1.0, "dense"), entry(1, 0.895, 0.02, "random")])).splitlines()
    assert worse[4:] == ["the ticket does not win: it is more than 0.01 below the 0.9500 of the dense network",
                         "controls that are as good as the ticket: random"]  # fmt: skip
    assert printed(record(rounds)).count("\n") == 2
    assert printed(record(rounds, [entry(1, 0.7, 0.02, "random")])).endswith("none is at most 0.01 below it\n")


def test_an_early_ticket_that_was_not_trained_is_no_success():
    masks = [{"step": 8, "distances": [], "largest": None}, {"step": 16, "distances": [0.0], "largest": 0.0}]
    known = {"found": True, "step": 16, "mask": 2, "masks_in_all": 2, "share": 1.0, "trained": 0, "window": 2,
             "distance": 0.1, "masks": masks}  # fmt: skip
    out = io.StringIO()
    print_retraining(Console(file=out, width=120, force_terminal=True), {"early_bird": known})
    assert "early-bird ticket at step 16, with mask 2 of 2: too late to be trained" in out.getvalue()
    assert "\x1b[32m" not in out.getvalue()
    assert "ticket at step 8, with mask 1 of 2: 50.0% of all steps" in printed(
        {"early_bird": {**known, "step": 8, "mask": 1, "share": 0.5, "trained": 8}}
    )


def test_what_was_frozen():
    known = {"weights": 1000, "trained": 100, "seed_of_weights": 7}
    assert printed({**known, "freeze": "freezenet"}) == (
        "freezenet: 100 of 1,000 weights are trained (10.0%); the other 900 stay where the seed 7 put them\n"
    )
    decayed = printed({**known, "freeze": "freezenet", "decayed_to": 0.81234})
    assert " ".join(decayed.split()).endswith("put them, times 0.8123, to which they decayed")
    zhou = printed({**known, "freeze": "zhou", "zeros": 300, "seed_of_weights": None})
    assert zhou.endswith("; of the others 300 are at zero, and 600 stay as they were given\n")
    fish = printed({**known, "freeze": "fish", "moved": 180, "choices": 2, "seed_of_weights": None})
    assert fish.endswith("(10.0%), chosen 2 times; 180 are not where they were\n")


def test_scores_that_chose():
    layers = {f"{index}.weight": {"weights": 1000, "kept": 300, "sparsity": 0.7} for index in range(14)}
    known = {"method": "edge-popup", "options": {"init": "sign", "sparsity": 0.7, "rescale": True}, "layers": layers,
             "scores": 14000, "trained_besides": 0, "weights": 14000, "kept": 4200, "density": 0.3}  # fmt: skip
    lines = printed({"strong": known}).splitlines()
    assert lines[0] == "edge-popup with init=sign, sparsity=0.7, rescale=yes"
    assert lines[1] == "14,000 scores trained, and nothing else; 4,200 of 14,000 weights are kept (30.0%)"
    assert lines[2].split() == ["layer", "weights", "kept", "sparsity"]
    assert lines[3].split() == ["0.weight", "1,000", "300", "70.0%"]
    assert lines[-1] == "and 2 more layers, in the report"
    besides = printed({"strong": {**known, "trained_besides": 1, "options": {"init": "sign", "sparsity": None}}})
    assert besides.startswith("edge-popup with init=sign\n14,000 scores trained, and 1 other parameter besides; ")
