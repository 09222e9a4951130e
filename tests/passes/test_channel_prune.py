"""channel-prune: goals are reached exactly, limits are kept, and what goes together goes together."""

import pytest
import torch
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.errors import ContractError, PassError, UsageError
from sparsify.groups import groups

ALL = "units=all"


class Residual(nn.Module):
    """A stream of 12 channels through two blocks of 10 and 14."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.a, self.b = (self.branch(width) for width in (10, 14))
        self.head = nn.Linear(12, 5)

    def branch(self, width):
        return nn.Sequential(nn.Conv2d(12, width, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 12, 1))

    def forward(self, x):
        x = self.stem(x).relu()
        x = (x + self.a(x)).relu()
        x = (x + self.b(x)).relu()
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def residual():
    return sp.capture(Residual().eval(), (torch.randn(2, 3, 8, 8),))


@pytest.fixture(scope="module")
def llama():
    model, args, kwargs = FAMILIES["llama"]()
    return sp.capture(model, args, kwargs)


def decided(program, options, shrink=True):
    result = sp.run(program, [f"channel-prune:{options}", *(["shrink"] if shrink else [])])
    return result.program, result.report["passes"][0]


def widths(program):
    return {name: program.parameters[name].shape[0] for name in ("stem.weight", "a.0.weight", "b.0.weight")}


def test_only_masks_are_written(residual):
    program, record = decided(residual, "sparsity=0.5", shrink=False)
    assert widths(program) == widths(residual)
    assert record["groups"] == {"a.0": "10 -> 5", "b.0": "14 -> 7"}
    assert set(program.masks) == {"a.0.weight", "a.0.bias", "a.1.weight", "a.1.bias", "a.3.weight",
                                  "b.0.weight", "b.0.bias", "b.1.weight", "b.1.bias", "b.3.weight"}  # fmt: skip
    kept = program.masks["a.0.bias"]
    assert int(kept.sum()) == 5
    assert torch.equal(program.masks["a.3.weight"], kept[None, :, None, None].expand(12, 10, 1, 1))
    assert str(residual) == str(sp.capture(Residual().eval(), (torch.randn(2, 3, 8, 8),)))


def test_the_smallest_norms_go(residual):
    program, _ = decided(residual, "sparsity=0.5", shrink=False)
    members = ["a.0.weight", "a.0.bias", "a.1.weight", "a.1.bias"]
    norms = sum(residual.parameters[name].abs().reshape(10, -1).sum(1) for name in members)
    norms = norms + residual.parameters["a.3.weight"].abs().sum((0, 2, 3))
    assert set(norms.topk(5).indices.tolist()) == set(program.masks["a.0.bias"].nonzero().flatten().tolist())


@pytest.mark.parametrize("scope", ["uniform", "global"])
@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.45, 0.7])
def test_the_number_of_channels_is_exact(residual, scope, sparsity):
    program, record = decided(residual, f"sparsity={sparsity},scope={scope},{ALL}")
    left = sum(widths(program).values())
    assert abs(left - (1 - sparsity) * 36) <= 0.5
    assert record["reached"] == pytest.approx(1 - left / 36)


@pytest.mark.parametrize("scope", ["uniform", "global"])
@pytest.mark.parametrize(("goal", "counted"), [("macs", "macs"), ("params", "parameters")])
def test_a_goal_is_reached(scope, goal, counted):
    model, args, kwargs = FAMILIES["resnet"]()
    before = sp.capture(model, args, kwargs)
    program, record = decided(before, f"{goal}=0.5,scope={scope},{ALL}")
    share = getattr(sp.cost(program), counted) / getattr(sp.cost(before), counted)
    assert share == pytest.approx(0.5, abs=0.02)
    assert record["reached"] == pytest.approx(share)


def test_uniform_takes_the_same_share_of_every_group(residual):
    program, _ = decided(residual, f"sparsity=0.5,{ALL}")
    assert widths(program) == {"stem.weight": 6, "a.0.weight": 5, "b.0.weight": 7}


def test_global_takes_the_lowest_scores_of_all():
    model = Residual().eval()
    with torch.no_grad():
        for value in (model.b[0].weight, model.b[0].bias, model.b[1].weight, model.b[3].weight.transpose(0, 1)):
            value[:11] *= 1e-3
    program, _ = decided(sp.capture(model, (torch.randn(2, 3, 8, 8),)), "sparsity=0.45,scope=global")
    assert widths(program) == {"stem.weight": 12, "a.0.weight": 10, "b.0.weight": 3}


def test_widths_are_rounded(residual):
    program, record = decided(residual, f"sparsity=0.5,round_to=4,{ALL}")
    assert all(width % 4 == 0 for width in widths(program).values())
    assert record["reached"] == pytest.approx(0.5, abs=4 / 36)


def test_rotary_pairs_are_rounded_as_pairs(llama):
    program, _ = decided(llama, "sparsity=0.5,units=head-dim,round_to=2")
    keys = [value for name, value in program.parameters.items() if "k_proj" in name]
    assert len({value.shape[0] for value in keys}) == 1
    assert keys[0].shape[0] % 2 == 0


@pytest.mark.parametrize(("options", "least"), [("max_sparsity=0.5", 5), ("minimum=7", 7), ("max_sparsity=0.2", 8)])
def test_limits_are_kept(residual, options, least):
    with pytest.raises(PassError, match="is the most that max_sparsity, minimum"):
        decided(residual, f"sparsity=0.8,{options}")
    program, _ = decided(residual, f"sparsity=0.15,scope=global,{options}")
    assert min(widths(program)["a.0.weight"], widths(program)["b.0.weight"]) >= least


def test_protected_groups_stay(residual):
    program, _ = decided(residual, f"sparsity=0.4,protect=a.*,stem,{ALL}")
    assert widths(program)["a.0.weight"] == 10
    assert widths(program)["stem.weight"] == 12
    by_member, _ = decided(residual, f"sparsity=0.4,protect=a.3.weight,{ALL}")  # the stream, by a weight that makes it
    assert widths(by_member)["stem.weight"] == 12
    with pytest.raises(PassError, match=r"protect=b matches no group \(did you mean 'b\.\*'\?\)"):
        decided(residual, "sparsity=0.4,protect=b")
    with pytest.raises(PassError, match="protect=c matches no group"):
        decided(residual, "sparsity=0.4,protect=c")


def test_units_choose_the_kind(llama):
    def changed(units):
        return set(decided(llama, f"sparsity=0.5,units={units}", shrink=False)[1]["groups"])

    kinds = {group.name: group.kind for group in groups(llama) if not group.frozen}
    for units in ("channels", "heads", "kv-groups", "head-dim", "stream"):
        assert changed(units) == {name for name, kind in kinds.items() if kind == units}
    with pytest.raises(PassError, match="no group to prune with units=experts"):
        changed("experts")


def test_whole_heads_go(llama):
    program, _ = decided(llama, "sparsity=0.5,units=kv-groups")
    name = "model.layers.0.self_attn.{}_proj.weight"
    for projection, dim in (("q", 0), ("k", 0), ("v", 0), ("o", 1)):
        before, after = (held.parameters[name.format(projection)] for held in (llama, program))
        assert after.shape[dim] == before.shape[dim] // 2
        kept = [row for row in range(before.shape[dim]) if any(
            torch.equal(before.select(dim, row), other) for other in after.unbind(dim))]  # fmt: skip
        width = before.shape[dim] // len(kept) * len(kept) // 2
        assert kept in (list(range(width)), list(range(width, 2 * width)))


def test_what_a_norm_counts_is_removed_at_once(llama):
    program, record = decided(llama, "sparsity=0.5,units=stream", shrink=False)
    assert record["removed_at_once"] == ["model.embed_tokens"]
    assert record["proved"] <= 1e-5
    assert program.parameters["model.embed_tokens.weight"].shape[1] == llama.parameters[
        "model.embed_tokens.weight"].shape[1] // 2  # fmt: skip
    assert not program.masks


def test_a_wrong_removal_is_caught(llama, monkeypatch):
    from sparsify.passes import channel_prune

    def wrong(axes, keep):
        program = channel_prune.resized_right(axes, keep)
        name = "lm_head.weight"
        changed = {**program.parameters, name: nn.Parameter(program.parameters[name].flip(1))}
        return type(program)(**{**vars(program), "parameters": changed})

    monkeypatch.setattr(channel_prune, "resized_right", channel_prune.resized, raising=False)
    monkeypatch.setattr(channel_prune, "resized", wrong)
    with pytest.raises(ContractError, match="removed at once"):
        decided(llama, "sparsity=0.5,units=stream", shrink=False)


def test_experts_keep_what_the_router_needs():
    model, args, kwargs = FAMILIES["mixtral"]()
    program = sp.capture(model, args, kwargs)
    small, record = decided(program, "sparsity=0.5,units=experts")
    assert set(record["groups"].values()) == {"4 -> 2"}
    with pytest.raises(PassError, match="cannot be reached"):
        decided(program, "sparsity=0.75,units=experts")
    assert small.parameters["model.layers.0.mlp.experts.down_proj"].shape[0] == 2


def test_rounds_score_again(residual):
    one, three = (decided(residual, f"sparsity=0.6,{ALL},rounds={rounds}") for rounds in (1, 3))
    assert widths(one[0]) == widths(three[0])
    assert three[1]["reached"] == one[1]["reached"]


def test_a_criterion_with_data():
    model = Residual().eval()
    program = sp.capture(model, (torch.randn(2, 3, 8, 8),))
    with pytest.raises(PassError, match="needs a loss"):
        decided(program, "sparsity=0.5,criterion=taylor")
    with pytest.raises(PassError, match="scores blocks"):
        decided(program, "sparsity=0.5,criterion=oracle")


def test_twice_is_the_same(residual):
    one, two = (decided(residual, f"macs=0.5,scope=global,{ALL},criterion=random")[0] for _ in range(2))
    assert str(one) == str(two)
    assert all(torch.equal(value, two.parameters[name]) for name, value in one.parameters.items())


def test_pruning_again_goes_on_from_there(residual):
    once = decided(residual, "sparsity=0.5")[0]
    twice = decided(once, "sparsity=0.5")[0]
    assert widths(twice) == {"stem.weight": 12, "a.0.weight": 3, "b.0.weight": 3} or sum(widths(twice).values()) == 18


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "takes one of sparsity, macs and params, not none"),
        ("sparsity=0.5,macs=0.5", "not sparsity and macs"),
        ("sparsity=1", "not a fraction"),
        ("macs=1.5", "not a fraction"),
        ("sparsity=0.5,units=chanels", "no unit 'chanels'.*did you mean 'channels'"),
        ("sparsity=0.5,round_to=0", "round_to=0 is less than 1"),
        ("sparsity=0.5,max_sparsity=1", "max_sparsity"),
        ("sparsity=0.5,criterion=nonsense", "nonsense"),
    ],
)
def test_wrong_options_are_refused(residual, options, message):
    with pytest.raises(UsageError, match=message):
        decided(residual, options)


def test_what_cannot_be_reached_is_refused(residual):
    with pytest.raises(PassError, match=r"macs=0.05 cannot be reached: 0\.\d+ is the least"):
        decided(residual, "macs=0.05")
