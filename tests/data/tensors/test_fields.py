"""Batches of fields by name, for a step of one's own."""
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from fastgan.data import open_fields, open_source
from fastgan.errors import UserError

NUMBERS = torch.arange(10)
DATA = {
    "img": NUMBERS[:, None, None, None].expand(10, 6, 5, 3).to(torch.uint8),
    "cond": NUMBERS.double()[:, None] / 2,
    "c": NUMBERS,
    "mask": NUMBERS % 2 == 0,
}


class Items(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return {name: value[index] for name, value in DATA.items()} | {"path": "a.png"}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Items()[index] for index in range(10))


def check(fields: dict[str, torch.Tensor]) -> list[int]:
    """Check that the fields of a batch belong together; return the numbers of its items."""
    number = fields["c"]
    assert {name: value.dtype for name, value in fields.items()} == {name: each.dtype for name, each in DATA.items()}
    assert fields["img"].shape == (len(number), 3, 6, 5)
    assert torch.equal(fields["img"][:, 0, 0, 0].long(), number)
    assert torch.equal(fields["cond"][:, 0] * 2, number.double())
    assert torch.equal(fields["mask"], number % 2 == 0)
    return number.tolist()


@pytest.mark.parametrize("data", [DATA, {name: value.numpy() for name, value in DATA.items()}, Items(),
                                  DataLoader(Items(), batch_size=3, shuffle=True), Stream()])
def test_one_index_gathers_all_fields_with_their_dtypes(data):
    feed = open_fields(data, 5, seed=3)
    numbers = [check(feed.next_batch().fields) for _ in range(6)]
    assert all(sorted(first + second) == list(range(10)) for first, second in zip(*[iter(numbers)] * 2, strict=True))
    assert feed.num_items == (None if isinstance(data, Stream) else 10)
    assert check(feed.items)
    assert check(feed.reread().fields) == numbers[-1]


def test_the_order_is_that_of_the_resident_feed_and_goes_on_from_any_place():
    feed, later = (open_fields(DATA, 4, seed=1) for _ in range(2))
    shown = [feed.next_batch().fields["c"].tolist() for _ in range(5)]
    later.seek(12)
    assert [later.next_batch().fields["c"].tolist() for _ in range(2)] == shown[3:]


def test_single_arrays_tuples_and_sources():
    assert list(open_fields(np.zeros((4, 7)), 2).items) == ["img"]
    assert list(open_fields((np.zeros((4, 7)), [0, 1, 2, 3]), 2).items) == ["img", "c"]
    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    for data in (open_source((pictures, [0, 1] * 3)), open_source((pictures, [0, 1] * 3)).read(8, 3)):
        feed = open_fields(data, 6)
        batch = feed.next_batch().fields
        assert batch["img"].shape == (6, 3, 8, 8)
        assert sorted(batch["c"].tolist()) == [0, 0, 0, 1, 1, 1]


def test_what_is_done_with_the_data_is_said():
    assert "read once" in open_fields(Items(), 2).notes[0]
    assert "no numbers as path" in open_fields(DataLoader(Items(), batch_size=2), 2).notes[1]
    assert "read once" in open_fields(DataLoader(Items(), batch_size=2), 2, cache=True).notes[0]
    assert open_fields(DATA, 2).notes == ()


def test_data_that_have_no_fields_are_refused():
    for data in (None, 3, print):
        with pytest.raises(UserError, match="give a dict of arrays or tensors, a Dataset, a DataLoader"):
            open_fields(data, 2)
    with pytest.raises(UserError, match="batch_size 11 does not fit a set of 10 images"):
        open_fields(DATA, 11)


def test_batches_that_differ_are_refused():
    items = [{"img": torch.zeros(3)}] * 4 + [{"img": torch.zeros(4)}] * 4
    with pytest.raises(UserError, match=r"gives fields img float32 \[4\], and its first ones are img float32 \[3\]"):
        open_fields(DataLoader(items, batch_size=4), 4)
