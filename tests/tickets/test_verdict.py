"""Verdicts: who wins, and by the same rule who does as well."""

from sparsify.tickets.verdict import verdict


def entry(number, score, control=None, best=None):
    network = control or ("ticket" if number else "dense")
    known = {"round": number, "network": network, "score": score, "first_steps_to_best": best}
    return {**known, "control": control} if control else known


def test_tickets_win_within_the_margin():
    found = verdict([entry(0, 0.98), entry(1, 0.97), entry(2, 0.9699)], [], 0.01)
    assert found == {"start": "dense", "start_score": 0.98, "margin": 0.01, "winning": [1]}


def test_controls_are_as_good_by_the_same_rule_in_every_round():
    rounds = [entry(0, 0.98), entry(1, 0.975), entry(2, 0.5), entry(3, 0.4)]
    controls = [entry(1, 0.97, "random"), entry(2, 0.495, "random"), entry(2, 0.48, "reinit")]
    found = verdict(rounds, controls, 0.01)
    assert found["winning"] == [1]
    assert found["controls_as_good"] == [{"round": 1, "control": "random"}, {"round": 2, "control": "random"}]
    assert found["compared"] == [1, 2]


def test_before_training_the_dense_control_is_the_start():
    found = verdict([entry(1, 0.9)], [entry(1, 0.9, "dense")], 0.01)
    assert (found["start_score"], found["winning"], "controls_as_good" in found) == (0.9, [1], False)
    assert verdict([entry(1, 0.9)], [], 0.01) == {}


def test_controls_are_compared_where_the_start_was_not_trained():
    found = verdict([entry(1, 0.9)], [entry(1, 0.895, "random"), entry(1, 0.8, "reinit")], 0.01)
    assert found == {"margin": 0.01, "compared": [1], "controls_as_good": [{"round": 1, "control": "random"}]}


def test_tickets_that_learn_as_fast():
    rounds = [entry(0, 0.9, best=30), entry(1, 0.9, best=30), entry(2, 0.9, best=40), entry(3, 0.1, best=10)]
    assert verdict(rounds, [], 0.01)["as_fast"] == [1]
