import torch
from helpers.trials import ORDER, Imitation, known_uses, of_channels, of_groups

from sparsify.observation.bandits import Arms, source
from sparsify.statistics.thompson_damage import _choose


def test_it_finds_out_who_does_the_least_damage():
    model, program = known_uses()
    found = of_channels(program, "thompson-damage", Imitation(model))
    assert found[0] == 0
    assert found.argsort().tolist() == ORDER


def test_the_estimates_are_near_the_damage_over_all_batches():
    model, program = known_uses()
    found = of_channels(program, "thompson-damage", Imitation(model))
    torch.testing.assert_close(found, of_channels(program, "channel-damage", Imitation(model)), rtol=0.3, atol=0.01)


def test_the_seed_decides():
    model, program = known_uses()

    def measured(seed):
        return of_channels(program, "thompson-damage", Imitation(model), seed=seed)

    assert torch.equal(measured(1), measured(1))
    assert not torch.equal(measured(1), measured(2))


def test_it_needs_no_task():
    _, program = known_uses()
    (found,) = of_groups(program, ["thompson-damage"]).found["thompson-damage"].values()
    assert found.argsort().tolist() == ORDER


def test_most_pulls_go_to_the_arms_that_do_little_damage():
    arms = Arms(10, source(0, ""))
    noise = torch.Generator().manual_seed(0)
    for _ in range(400):
        arm = arms.next(_choose)
        arms.note(arm, arm / 10 + 0.1 * float(torch.randn((), generator=noise)))
    assert arms.pulls[:3].sum() > 200
    assert arms.pulls.min() >= 1
