"""The mask controller: what is pruned stays zero under every optimizer, and what it keeps does too."""

import copy

import pytest
import torch
from helpers.rank_jobs import of_own_loop
from helpers.ranks import together
from helpers.sparse import program_of
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

import sparsify as sp
from sparsify.errors import ContractError, UsageError
from sparsify.masking import masked
from sparsify.training.mask_controller import MaskController

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "sgd-momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    "adamw-fused": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, fused=True),
    "amsgrad": lambda p: torch.optim.AdamW(p, 0.01, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.01, weight_decay=0.1),
}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def half(module, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {f"{i}.weight": torch.rand(module[i].weight.shape, generator=generator) > 0.5 for i in (0, 2)}


def step(module, optimizer, seed=0):
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    F.cross_entropy(module(x), torch.arange(16) % 3).backward()
    optimizer.step()


def slots(module, optimizer):
    for name, parameter in module.named_parameters():
        for kind, value in optimizer.state[parameter].items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                yield name, kind, value


def revived(module, masks):
    return sum(int((module.get_parameter(name)[~mask] != 0).sum()) for name, mask in masks.items())


@pytest.mark.parametrize("name", ["sgd-momentum", "adamw"])
def test_masking_gradients_alone_revives_pruned_weights(name):
    """The trap, so that it is known to be one: a mask that comes during training meets momentum and decay."""
    module = network()
    optimizer, masks = OPTIMIZERS[name](module.parameters()), half(module)
    for seed in range(3):
        step(module, optimizer, seed)
    with torch.no_grad():
        for key, mask in masks.items():
            module.get_parameter(key).mul_(mask)
            module.get_parameter(key).register_hook(lambda g, mask=mask: g * mask)
    for seed in range(5):
        step(module, optimizer, seed)
    assert revived(module, masks) == sum(int((~mask).sum()) for mask in masks.values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_and_their_slots_stay_zero(name):
    module = network()
    optimizer, masks = OPTIMIZERS[name](module.parameters()), half(module)
    for seed in range(3):
        step(module, optimizer, seed)
    controller = MaskController(masks, audit=True).attach(optimizer, module)
    assert revived(module, masks) == 0
    for seed in range(5):
        step(module, optimizer, seed)
        assert revived(module, masks) == 0
        for key, _, value in slots(module, optimizer):
            if key in masks:
                assert not value[~masks[key]].any()
    controller.check()
    for key, mask in masks.items():
        assert bool((module.get_parameter(key)[mask] != 0).all())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_kept_weights_are_trained_as_by_a_network_that_has_no_others(name):
    """With weights that are zero, whose gradients are masked, the others get the same bits."""
    one = network()
    masks = half(one)
    with torch.no_grad():
        for key, mask in masks.items():
            one.get_parameter(key).mul_(mask)
    other = copy.deepcopy(one)
    first, second = OPTIMIZERS[name](one.parameters()), OPTIMIZERS[name](other.parameters())
    MaskController(masks).attach(first, one)
    for key, mask in masks.items():
        other.get_parameter(key).register_hook(lambda g, mask=mask: g * mask)
    for seed in range(4):
        step(one, first, seed)
        step(other, second, seed)
    for key, value in one.named_parameters():
        assert torch.equal(value, other.get_parameter(key)), key


def test_a_weight_that_grows_back_starts_from_nothing():
    module = network()
    optimizer, masks = OPTIMIZERS["adamw"](module.parameters()), half(module)
    controller = MaskController(masks, audit=True).attach(optimizer, module)
    step(module, optimizer)
    turned = {key: ~mask for key, mask in masks.items()}
    controller.change(turned)
    for key, mask in turned.items():
        assert not module.get_parameter(key).any()  # what was kept is gone, what has come is zero
        for _, _, value in (item for item in slots(module, optimizer) if item[0] == key):
            assert not value.any()
        assert torch.equal(controller.masks[key], mask)
    step(module, optimizer)
    assert revived(module, turned) == 0
    assert bool(module[2].weight[turned["2.weight"]].any())


def test_a_moving_average_of_the_weights_is_masked_too():
    module = network()
    optimizer, masks = OPTIMIZERS["sgd"](module.parameters()), half(module)
    average = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    for seed in range(2):
        step(module, optimizer, seed)
        average.update_parameters(module)
    controller = MaskController(masks).attach(optimizer, module)
    step(module, optimizer)
    average.update_parameters(module)
    assert revived(average.module, masks) > 0  # the trap: it remembers
    controller.mask(average)
    assert revived(average.module, masks) == 0


def test_clipping_sees_kept_weights_only_when_gradients_are_masked():
    module = network()
    optimizer, masks = OPTIMIZERS["sgd"](module.parameters()), half(module)
    controller = MaskController(masks).attach(optimizer, module)
    F.cross_entropy(module(torch.ones(4, 6)), torch.zeros(4, dtype=torch.long)).backward()
    before = nn.utils.get_total_norm([p.grad for p in module.parameters()])
    controller.mask_gradients()
    assert nn.utils.get_total_norm([p.grad for p in module.parameters()]) < before
    assert not any(module.get_parameter(key).grad[~mask].any() for key, mask in masks.items())


def test_detached_it_leaves_the_optimizer_alone():
    module = network()
    optimizer, masks = OPTIMIZERS["sgd-momentum"](module.parameters()), half(module)
    controller = MaskController(masks).attach(optimizer, module)
    step(module, optimizer)
    controller.detach()
    step(module, optimizer)
    assert revived(module, masks) > 0
    with pytest.raises(ContractError, match=r"Of the weight of 0\.weight, \d+ pruned values are not zero"):
        controller.check()


def test_the_audit_finds_a_slot_that_lives():
    module = network()
    optimizer, masks = OPTIMIZERS["adamw"](module.parameters()), half(module)
    controller = MaskController(masks).attach(optimizer, module)
    step(module, optimizer)
    optimizer.state[module[2].weight]["exp_avg_sq"].fill_(1.0)
    with pytest.raises(ContractError, match=r"Of the exp_avg_sq of 2\.weight"):
        controller.check()


def test_a_program_says_its_masks_itself_and_wrappers_are_seen_through():
    model = network()
    program = masked(sp.capture(model, (torch.randn(4, 6),)), half(model))
    for module in (program.module(training=True), torch.compile(model, backend="eager"), nn.DataParallel(model)):
        optimizer = OPTIMIZERS["adamw"](module.parameters())
        MaskController(program, audit=True).attach(optimizer, module)
        step(module, optimizer)
        named = {key.removeprefix("_orig_mod.").removeprefix("module."): p for key, p in module.named_parameters()}
        assert all(not named[key][~mask].any() for key, mask in program.masks.items())


def test_what_does_not_fit_is_refused():
    module = network()
    optimizer = OPTIMIZERS["sgd"](module.parameters())
    with pytest.raises(UsageError, match=r"9\.weight cannot be masked: the module has no such parameter"):
        MaskController({"9.weight": torch.ones(2) > 0}).attach(optimizer, module)
    with pytest.raises(UsageError, match=r"mask of 0\.weight is for \[2\], and the parameter is \[8, 6\]"):
        MaskController({"0.weight": torch.ones(2) > 0}).attach(optimizer, module)
    with pytest.raises(UsageError, match="does not train it"):
        MaskController(half(module)).attach(OPTIMIZERS["sgd"](network().parameters()), module)


def test_a_submodule_that_is_called_as_wrappers_are():
    model = nn.Sequential()
    model.add_module("module", nn.Linear(4, 4))
    mask = {"module.weight": torch.eye(4).bool()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sp.MaskController(mask).attach(optimizer, model)
    assert not model.module.weight[~mask["module.weight"]].any()


def test_optimizers_that_masks_cannot_act_on_are_refused():
    model = nn.Linear(4, 4)
    with pytest.raises(UsageError, match="LBFGS keeps a history"):
        sp.MaskController({"weight": torch.eye(4).bool()}).attach(torch.optim.LBFGS(model.parameters()), model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.state[model.weight]["codes"] = torch.zeros(4, 4, dtype=torch.uint8)
    with pytest.raises(UsageError, match=r"keeps codes of weight as torch\.uint8"):
        sp.MaskController({"weight": torch.eye(4).bool()}).attach(optimizer, model)


def test_the_optimizer_is_enough_where_the_module_is_the_programs():
    program = sp.run(program_of(), ["weight-prune:sparsity=0.8"]).program
    module = program.module(training=True)
    controller = sp.MaskController(program).attach(torch.optim.AdamW(module.parameters(), 0.1))
    for name, mask in program.masks.items():
        assert not dict(module.named_parameters())[name][~mask].any()
    controller.check()
    other = nn.Linear(12, 32)
    with pytest.raises(UsageError, match=r"cannot be masked: .* Attach the controller to the optimizer and the module"):
        sp.MaskController(program).attach(torch.optim.SGD(other.parameters(), 0.1))


def test_what_has_no_masks_is_refused():
    with pytest.raises(UsageError, match=r"The program has no masks: nothing would be kept zero\. A pass"):
        sp.MaskController(program_of())
    with pytest.raises(UsageError, match="There are no masks"):
        sp.MaskController({})
    with pytest.raises(UsageError, match="takes a program with masks, or masks by parameter name, not int"):
        sp.MaskController(3)


def test_what_is_no_optimizer_is_refused():
    model = nn.Linear(4, 4)
    controller = sp.MaskController({"weight": torch.eye(4).bool()})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for arguments, kind in (((3, model), "int"), ((model, optimizer), "Linear"), ((optimizer, 3), "int")):
        with pytest.raises(UsageError, match=rf"attach\(optimizer, module\) takes .*, not {kind}\."):
            controller.attach(*arguments)


def test_parameters_that_fsdp_has_sharded_are_masked_in_shards():
    expected, masks = of_own_loop(0)
    for found, _ in together(2, of_own_loop, 2):
        assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert all(int(found[name][~mask].count_nonzero()) == 0 for name, mask in masks.items())
