"""A DataLoader that is iterated as it is."""
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from fastgan.data.tensors.loader import EndlessLoader
from fastgan.errors import UserError


class Breaking(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 5:
            raise ValueError("item 5 is broken")
        return torch.full((2,), float(index))


class Stream(IterableDataset):
    def __init__(self, num: int):
        self.num, self.epochs = num, []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __iter__(self):
        return iter(torch.arange(self.num))


class StatefulLoader:
    """A loader that tells its position, as torchdata's does."""

    def __init__(self, num: int):
        self.dataset, self.num, self.at, self.loaded = TensorDataset(torch.arange(num)), num, 0, None

    def __len__(self):
        return self.num

    def __iter__(self):
        self.at, self.loaded = self.loaded or 0, None
        while self.at < self.num:
            self.at += 1
            yield [torch.tensor([self.at - 1])]

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.loaded = state["at"]


def reading(loader, seed: int = 0) -> EndlessLoader:
    stream = EndlessLoader(loader, seed)
    stream.convert = lambda fields: fields["img"].tolist()
    return stream


def batches(stream: EndlessLoader, num: int) -> list:
    return [stream.next_batch()[1] for _ in range(num)]


def shuffled(num: int = 6, **options) -> DataLoader:
    return DataLoader(TensorDataset(torch.arange(num)), batch_size=4, shuffle=True, **options)


def test_epochs_follow_each_other_with_a_last_odd_batch_each():
    found = batches(reading(DataLoader(torch.arange(6), batch_size=4)), 5)
    assert found == [[0, 1, 2, 3], [4, 5], [0, 1, 2, 3], [4, 5], [0, 1, 2, 3]]


def test_the_seed_and_the_epoch_give_the_order():
    first, again, other = (batches(reading(shuffled(), seed), 4) for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(first[0] + first[1]) == sorted(first[2] + first[3]) == list(range(6))
    assert first[:2] != first[2:]
    loader = shuffled()
    assert batches(reading(loader), 4) == batches(reading(loader), 4)


def test_a_generator_of_the_users_stays():
    generator = torch.Generator().manual_seed(3)
    loader = shuffled(generator=generator)
    batches(reading(loader), 3)
    assert loader.generator is generator


def test_batches_that_were_peeked_at_are_given_too():
    stream = reading(DataLoader(torch.arange(10), batch_size=4))
    assert [fields["img"].tolist() for fields in stream.peek(5)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batches(stream, 3) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(reading(DataLoader(torch.arange(3), batch_size=2)).peek(64)) == 2


def test_positions_name_the_epoch_to_begin_again():
    stream = reading(shuffled())
    whole = batches(stream, 2)
    position, _ = stream.next_batch()
    assert position == {"epoch": 1}
    later = reading(shuffled())
    assert later.begin({"epoch": 0}) == 0
    assert batches(later, 2) == whole
    assert "begins its epoch 2 again" in later.said_of(position)
    assert later.epoch_at(13) == {"epoch": 2}


def test_a_stateful_loader_goes_on_in_the_midst_of_an_epoch():
    stream = reading(StatefulLoader(5))
    batches(stream, 7)
    position, batch = stream.next_batch()
    assert batch == [2]
    later = reading(StatefulLoader(5))
    assert later.said_of(position) is None
    assert later.begin(position | {"skip": 0}) == 0
    assert batches(later, 4) == [[2], [3], [4], [0]]


def test_a_state_that_cannot_be_written_leaves_the_epoch():
    class Odd(StatefulLoader):
        def state_dict(self):
            return {"file": object()}

    stream = reading(Odd(5))
    batches(stream, 2)
    assert stream.next_batch()[0] == {"epoch": 0}


def test_streams_have_no_length_and_are_told_their_epoch():
    stream = reading(DataLoader(Stream(3), batch_size=2))
    assert stream.num_items is None
    assert batches(stream, 4) == [[0, 1], [2], [0, 1], [2]]
    assert stream.loader.dataset.epochs == [0, 1]
    assert stream.epoch_at(100) == {"epoch": 0}


@pytest.mark.parametrize(("loader", "num"), [(shuffled(), 6), (shuffled(drop_last=True), 4)])
def test_the_length_of_an_epoch(loader, num):
    assert reading(loader).num_items == num


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_of_the_data_set_names_the_batch(num_workers):
    stream = reading(DataLoader(Breaking(), batch_size=2, num_workers=num_workers))
    batches(stream, 2)
    with pytest.raises(UserError, match="DataLoader of Breaking failed at batch 3 of epoch 1: ValueError: item 5 is b"):
        stream.next_batch()


def test_loaders_that_give_nothing_are_refused():
    with pytest.raises(UserError, match="gives no batches in epoch 1"):
        reading(DataLoader(Stream(0), batch_size=2)).next_batch()
    with pytest.raises(UserError, match="gives batches of str, str: let its collate_fn give tensors"):
        reading(DataLoader(["a", "b"], batch_size=2)).next_batch()


def test_fields_that_are_no_numbers_are_left_out():
    items = [{"img": torch.zeros(2), "name": "a"}] * 4
    stream = EndlessLoader(DataLoader(items, batch_size=2), 0)
    (fields, *_) = stream.peek(1)
    assert list(fields) == ["img"]
    assert stream.left_out == ["name"]
