"""A DataLoader that is iterated as it is, epoch after epoch without an end."""
from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.utils.data import DataLoader

from fastgan.data.feeds.feed import Batch
from fastgan.data.field_names import named
from fastgan.data.tensors.items import as_tensor
from fastgan.data.tensors.loader_state import decode, encode
from fastgan.errors import UserError

_OURS: weakref.WeakSet[torch.Generator] = weakref.WeakSet()  # generators that were made here
NUM_PEEKED = 64  # items that are looked at before training; training gets them too


class EndlessLoader:
    """The batches of a DataLoader by field, with its workers, sampler, collate_fn and transforms.

    convert: fields of a batch -> Batch; set it after `peek`. A loader and a sampler without a
    generator of their own get one, seeded by `seed` and the epoch, so that an epoch has one order;
    `set_epoch` is called where sampler or data set have it. Errors of the loader, its workers
    included, are UserErrors that name the batch.
    """

    convert: Callable[[dict[str, torch.Tensor]], Batch]

    def __init__(self, loader: DataLoader, seed: int):
        self.loader, self._seed = loader, seed
        self.origin = f"the DataLoader of {type(loader.dataset).__name__}"
        self.num_items = _num_items(loader)
        self.left_out: list[str] = []  # fields that are no numbers
        self._sampler = getattr(loader, "sampler", None)
        self._unseeded = [part for part in (loader, self._sampler) if _has_no_generator(part)]
        self._is_stateful = hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")
        self.start: Callable[[Callable[[], object]], object] = _at_once
        self._iterator: Iterator | None = None
        self._epoch, self._num_read = -1, 0  # the present epoch, and the batches read in it
        self._peeked: deque[tuple[dict, dict[str, torch.Tensor]]] = deque()

    def peek(self, num: int = NUM_PEEKED) -> list[dict[str, torch.Tensor]]:
        """Return the next batches, which hold `num` items where the epoch has as many."""
        while self._num_peeked() < num and not (self._peeked and self._is_at_end()):
            self._peeked.append(self._read())
        return [fields for _, fields in self._peeked]

    def next_batch(self) -> tuple[dict, Batch]:
        """See Stream."""
        position, fields = self._peeked.popleft() if self._peeked else self._read()
        return position, self.convert(fields)

    def begin(self, position: dict) -> int:
        """See Stream."""
        self._peeked.clear()
        self._epoch, self._iterator = position["epoch"] - 1, None
        is_exact = self._is_exact(position)
        self._start_epoch(decode(position["loader"]) if is_exact else None)
        return position.get("skip", 0) if is_exact else 0

    def epoch_at(self, nimg: int) -> dict:
        """See Stream."""
        return {"epoch": nimg // self.num_items if self.num_items else 0}

    def said_of(self, position: dict) -> str | None:
        """See Stream."""
        if self._is_exact(position):
            return None
        return (
            f"{self.origin} begins its epoch {position['epoch'] + 1} again, since it does not tell its position: "
            "torchdata's StatefulDataLoader does"
        )

    def _is_exact(self, position: dict) -> bool:
        return self._is_stateful and "loader" in position

    def _num_peeked(self) -> int:
        return sum(len(next(iter(fields.values()))) for _, fields in self._peeked)

    def _is_at_end(self) -> bool:
        """Return True where the epoch, of known length, is over."""
        try:
            return self._num_read >= len(self.loader)
        except TypeError:
            return False

    def _read(self) -> tuple[dict, dict[str, torch.Tensor]]:
        """Return (where it begins, the fields of the next batch); the next epoch follows the last."""
        for _ in range(2):
            if self._iterator is None:
                self._start_epoch(None)
            position = self._position()
            try:
                batch = next(self._iterator)
            except StopIteration:
                if self._num_read == 0:
                    break
                self._iterator = None
                continue
            except Exception as error:  # whatever the user's own code raises
                raise self._framed(error) from error
            self._num_read += 1
            return position, self._fields(batch)
        raise UserError(f"{self.origin} gives no batches in epoch {self._epoch + 1}: its data set must start anew")

    def _start_epoch(self, state: dict | None) -> None:
        """Start the next epoch; state: of the loader in the midst of it."""
        self._epoch += 1
        self._num_read = 0 if state is None else 1  # an epoch may be over where it goes on
        self._iterator = self.start(partial(self._iterate, state))

    def _iterate(self, state: dict | None) -> Iterator:
        self._seed_epoch()
        try:
            if state is not None:
                self.loader.load_state_dict(state)
            with _without_death_signal():
                return iter(self.loader)
        except Exception as error:  # whatever the user's own code raises
            raise self._framed(error) from error

    def _seed_epoch(self) -> None:
        digest = hashlib.sha256(f"loader {self._seed} {self._epoch}".encode()).digest()
        seed = int.from_bytes(digest[:7], "little")
        for part in self._unseeded:
            part.generator = torch.Generator().manual_seed(seed)
            _OURS.add(part.generator)
        for part in (self._sampler, self.loader.dataset):
            if hasattr(part, "set_epoch"):
                part.set_epoch(self._epoch)

    def _position(self) -> dict:
        position = {"epoch": self._epoch}
        if not self._is_stateful:
            return position
        try:
            return position | {"loader": encode(self.loader.state_dict()) if self._num_read else None}
        except TypeError:  # its state cannot be written: the run resumes at the epoch
            self._is_stateful = False
            return position

    def _fields(self, batch: object) -> dict[str, torch.Tensor]:
        tensors = {name: as_tensor(part) for name, part in named(batch).items()}
        self.left_out = [name for name, tensor in tensors.items() if tensor is None or tensor.dim() == 0]
        fields = {name: tensor for name, tensor in tensors.items() if name not in self.left_out}
        if not fields:
            kinds = ", ".join(type(part).__name__ for part in named(batch).values())
            raise UserError(f"{self.origin} gives batches of {kinds or 'nothing'}: let its collate_fn give tensors")
        return fields

    def _framed(self, error: Exception) -> UserError:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        # A worker's error is quoted with its traceback, the error itself last
        text = lines[-1] if lines[0].startswith("Caught") else f"{type(error).__name__}: {lines[0]}"
        return UserError(f"{self.origin} failed at batch {self._num_read + 1} of epoch {self._epoch + 1}: {text}")


@contextlib.contextmanager
def _without_death_signal() -> Iterator[None]:
    """Keep torch's handler for the death of a worker out.

    It raises wherever the training happens to be. The reader notices the death within 5 s, at the
    batch that is missing.
    """
    is_main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    before = signal.getsignal(signal.SIGCHLD) if is_main else None
    yield
    if before is not None:
        signal.signal(signal.SIGCHLD, before)


def _at_once(work: Callable[[], object]) -> object:
    return work()


def _has_no_generator(part: object) -> bool:
    """Return True for a loader or sampler without a generator, but for one that this module gave it."""
    return hasattr(part, "generator") and (part.generator is None or part.generator in _OURS)


def _num_items(loader: DataLoader) -> int | None:
    """Return the number of items of an epoch, None where it is unknown."""
    try:
        num = len(loader.sampler)
        size = loader.batch_size
        return num - num % size if loader.drop_last and size else num
    except (TypeError, AttributeError, NotImplementedError):
        pass
    try:
        return len(loader.dataset)
    except (TypeError, NotImplementedError):
        return None
