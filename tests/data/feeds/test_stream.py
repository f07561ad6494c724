"""A feed from host memory gives the images of the resident set, in the same order."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.data import ResidentFeed
from fastgan.data.feeds.feed import Batch
from fastgan.data.feeds.stream import StreamFeed
from fastgan.device.cuda_graphs import waiting_forbidden
from fastgan.errors import UserError


def images(num_images: int, height: int = 2, width: int = 3, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_images)
    return torch.randint(0, 256, (num_images, height, width, channels), dtype=torch.uint8, generator=generator)


def same(batch: Batch, other: Batch) -> bool:
    return all(map(torch.equal, batch.tensors(), other.tensors()))


def steps(feed, num_steps: int) -> list[Batch]:
    feed.reserve(num_steps)
    batches = [feed.read() for _ in range(num_steps)]
    feed.launched(num_steps)
    return batches


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(-5, 2**63),
    st.integers(0, 300),
    st.lists(st.integers(1, 4), max_size=10),
    st.booleans(),
    st.data(),
)
def test_the_images_of_the_resident_feed_at_any_position(num_images, seed, nimg, turns, threaded, data):
    batch_size = data.draw(st.integers(1, num_images))
    rows = images(num_images, 1, data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 3])))
    labels = torch.randperm(num_images)
    stream = StreamFeed(rows, batch_size, seed, max_steps=4, threaded=threaded, labels=labels)
    resident = ResidentFeed(rows, batch_size, seed, labels=labels)
    stream.next_batch()
    for feed in (stream, resident):
        feed.seek(nimg)
    for num_steps in turns:
        for batch in steps(stream, num_steps):
            assert same(batch, resident.next_batch())
        assert stream.nimg == resident.nimg
        assert torch.equal(stream.state()["position"], resident.state()["position"])
    stream.close()


@pytest.mark.parametrize("shape", [(1, 6), (4, 5, 7), (1, 2, 3, 4)])
def test_floats_of_any_shape_with_vectors_as_labels(shape):
    rows, vectors = torch.randn(7, *shape), torch.rand(7, 3)
    stream = StreamFeed(rows, 5, seed=1, labels=vectors)
    resident = ResidentFeed(rows, 5, seed=1, labels=vectors)
    assert all(same(stream.next_batch(), resident.next_batch()) for _ in range(3))


def test_batches_are_channels_last_uint8():
    batch = StreamFeed(images(9, 4, 5, 3), 6, seed=0).next_batch().img
    assert batch.shape == (6, 3, 4, 5)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_a_memory_map_is_read_where_it_lies(tmp_path):
    rows = images(20, 4, 4, 3)
    rows.numpy().tofile(tmp_path / "rows")
    mapped = torch.from_numpy(np.memmap(tmp_path / "rows", np.uint8, "c", shape=tuple(rows.shape)))
    stream, resident = StreamFeed(mapped, 8, seed=1, threaded=True), ResidentFeed(rows, 8, seed=1)
    assert stream._sources.img.data_ptr() == mapped.data_ptr()
    assert all(torch.equal(stream.next_batch().img, resident.next_batch().img) for _ in range(10))
    stream.close()


@pytest.mark.parametrize("batch_size", [0, -1, 11])
def test_a_batch_that_does_not_fit_is_refused(batch_size):
    with pytest.raises(UserError, match="choose one from 1 to 10"):
        StreamFeed(images(10), batch_size, seed=0)


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"give int64 \[10\]"):
        StreamFeed(images(10), 2, seed=0, labels=torch.zeros(9, dtype=torch.int64))


def test_a_compiled_step_can_read():
    stream, resident = (kind(images(20), 4, seed=0, labels=torch.arange(20)) for kind in (StreamFeed, ResidentFeed))
    read = torch.compile(lambda: (stream.read(), stream.reread()), backend="eager", fullgraph=True)
    for _ in range(30):
        stream.reserve(1)
        batch, again = read()
        stream.launched(1)
        assert same(batch, resident.next_batch())
        assert same(again, batch)


@pytest.fixture
def on_cuda():
    """Return (StreamFeed, ResidentFeed) of one set on the GPU."""
    rows, labels = images(1000, 16, 16, 3), torch.arange(1000)
    stream, resident = (
        StreamFeed(rows, 32, 5, "cuda", max_steps=4, labels=labels),
        ResidentFeed(rows, 32, 5, "cuda", labels),
    )
    yield stream, resident
    stream.close()


@pytest.mark.gpu
def test_on_cuda_the_images_of_the_resident_feed(on_cuda):
    stream, resident = on_cuda
    for nimg in (0, 77, 32 * 1000 + 5):
        for feed in on_cuda:
            feed.seek(nimg)
        for num_steps in (1, 4, 3, 4, 2, 4, 4, 4):
            assert all(same(batch, resident.next_batch()) for batch in steps(stream, num_steps))


@pytest.mark.gpu
def test_on_cuda_a_slot_is_neither_read_too_early_nor_filled_too_early(on_cuda):
    stream, resident = on_cuda
    given_batches = []
    for turn in range(30):
        if turn % 3:
            torch.cuda._sleep(20_000_000)  # cycles, about 10 ms: the host runs ahead, as far as the ring lets it
        given_batches += steps(stream, 4)
    assert all(same(batch, resident.next_batch()) for batch in given_batches)


@pytest.mark.gpu
def test_on_cuda_nothing_waits_for_the_device(on_cuda):
    stream, _ = on_cuda
    with waiting_forbidden():
        for nimg in (0, 77):
            stream.seek(nimg)
            for _ in range(20):
                steps(stream, 4)


@pytest.mark.gpu
def test_on_cuda_a_graph_reads_while_the_thread_fills(on_cuda):
    stream, resident = on_cuda
    position = stream.state()["position"]
    before, graph = position.clone(), torch.cuda.CUDAGraph()
    stream.reserve(4)
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        batches = [stream.read() for _ in range(4)]
    position.copy_(before)
    for _ in range(20):
        stream.reserve(4)
        graph.replay()
        stream.launched(4)
        assert all(same(batch, resident.next_batch()) for batch in batches)
