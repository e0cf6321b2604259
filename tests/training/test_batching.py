from hypothesis import given
from hypothesis import strategies as st

from zhsenti.methods.prompt import token_batches
from zhsenti.training.batching import LengthBucketSampler

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=400)


@given(lengths=LENGTHS, size=st.integers(1, 20), accumulation=st.integers(1, 4), seed=st.integers(0, 9))
def test_every_row_once_and_decided_by_seed_and_epoch(lengths, size, accumulation, seed):
    sampler = LengthBucketSampler(lengths, size, accumulation, seed)
    sampler.set_epoch(2)
    updates = list(sampler)
    assert sorted(i for update in updates for i in update) == list(range(len(lengths)))
    assert len(updates) == len(sampler)
    assert all(len(update) <= size * accumulation for update in updates)
    again = LengthBucketSampler(lengths, size, accumulation, seed)
    again.set_epoch(2)
    assert list(again) == updates


def test_epochs_and_seeds_differ_and_padding_is_small():
    lengths = [10 + (i * 37) % 200 for i in range(2000)]
    first, second = LengthBucketSampler(lengths, 8, 1, 0), LengthBucketSampler(lengths, 8, 1, 0)
    second.set_epoch(1)
    assert list(first) != list(second) != list(LengthBucketSampler(lengths, 8, 1, 1))
    padded = sum(len(b) * max(lengths[i] for i in b) for b in first)
    assert padded < 1.05 * sum(lengths)


def test_an_update_joins_batches_in_their_order():
    lengths = [10 + (i * 37) % 200 for i in range(100)]
    single = list(LengthBucketSampler(lengths, 8, 1, 0))
    assert list(LengthBucketSampler(lengths, 8, 2, 0)) == [
        [*left, *right] for left, right in zip(single[::2], [*single[1::2], []], strict=True)
    ]


@given(lengths=LENGTHS, budget=st.integers(1, 500))
def test_passes_stay_in_budget_and_lose_nothing(lengths, budget):
    batches = token_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        rows = [lengths[i] for i in batch]
        assert len(batch) == 1 or sum(rows) <= budget


def test_passes_go_longest_first_and_are_full():
    assert token_batches([3, 9, 5, 1], 9) == [[1], [2, 0, 3]]
    assert len(token_batches([10] * 100, 100)) == 10
