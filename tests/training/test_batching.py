from hypothesis import given
from hypothesis import strategies as st

from zhsenti.training.batching import LengthBucketSampler, sorted_batches

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=400)


@given(lengths=LENGTHS, batch_size=st.integers(1, 20), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_every_row_once_and_decided_by_seed_and_epoch(lengths, batch_size, seed, epoch):
    sampler = LengthBucketSampler(lengths, batch_size, seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    assert all(len(batch) <= batch_size for batch in batches)
    again = LengthBucketSampler(lengths, batch_size, seed)
    again.set_epoch(epoch)
    assert list(again) == batches


def test_epochs_and_seeds_differ_and_padding_is_small():
    lengths = [10 + (i * 37) % 200 for i in range(2000)]
    first, second = LengthBucketSampler(lengths, 8, 0), LengthBucketSampler(lengths, 8, 0)
    second.set_epoch(1)
    assert list(first) != list(second) != list(LengthBucketSampler(lengths, 8, 1))
    padded = sum(len(b) * max(lengths[i] for i in b) for b in first)
    assert padded < 1.05 * sum(lengths)


def test_scoring_goes_longest_first():
    assert sorted_batches([3, 9, 5, 1], 2) == [[1, 2], [0, 3]]
