import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from sparsify.data.seeded import Seeded

NUMBERS = TensorDataset(torch.arange(12))


class Noisy(Dataset):
    """Every number with noise from each of the global generators."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.tensor([index, torch.rand(()).item(), np.random.rand(), random.random()], dtype=torch.float64)


def given(loader, seed):
    return torch.cat([batch[0] if isinstance(batch, list) else batch for batch in Seeded(loader, seed)])


def loaders():
    shared = torch.Generator()
    return {
        "plain": DataLoader(NUMBERS, 5, shuffle=True),
        "generator": DataLoader(NUMBERS, 5, shuffle=True, generator=shared),
        "sampler": DataLoader(NUMBERS, 5, sampler=RandomSampler(NUMBERS, generator=torch.Generator())),
        "weights": DataLoader(NUMBERS, 5, sampler=WeightedRandomSampler([1.0] * 12, 12)),
        "batch sampler": DataLoader(NUMBERS, batch_sampler=BatchSampler(RandomSampler(NUMBERS), 5, False)),
        "noise": DataLoader(Noisy(), 2, shuffle=True),
        "workers": DataLoader(Noisy(), 2, shuffle=True, num_workers=2),
    }


@pytest.mark.parametrize("kind", loaders())
def test_the_seed_decides(kind):
    loader = loaders()[kind]
    first, other, again = (given(loader, seed) for seed in (1, 2, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(given(loaders()[kind], 1), first)  # another loader of the same kind, at another time


def test_what_happens_in_between_does_not_matter():
    loader = loaders()["noise"]
    undisturbed = given(loader, 3)
    parts = []
    for batch in Seeded(loader, 3):
        torch.rand(7), np.random.rand(3), random.random()
        parts.append(batch)
    assert torch.equal(torch.cat(parts), undisturbed)


def test_the_global_generators_are_left_alone():
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    before = states()
    for _ in Seeded(loaders()["noise"], 3):
        assert states() == before
    assert states() == before


def test_they_are_left_alone_when_the_loader_fails():
    class Broken(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            raise ValueError(f"{index} {torch.rand(())}")

    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="0 0"):
        list(Seeded(DataLoader(Broken()), 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_has_epochs_is_told_the_seed():
    class Epochs(IterableDataset):
        epoch = None

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __iter__(self):
            return iter([self.epoch, self.epoch + 1])

    loader = DataLoader(Epochs(), 2)
    assert [batch.tolist() for batch in Seeded(loader, 7)] == [[7, 8]]
    with pytest.raises(TypeError):
        len(Seeded(loader, 7))


def test_lists_and_mappings():
    from collections import UserDict

    assert list(Seeded([1, 2], 0)) == [1, 2]
    assert len(Seeded([1, 2], 0)) == 2
    (batch,) = Seeded([UserDict(a=1)], 0)
    assert type(batch) is dict
    assert batch == {"a": 1}
