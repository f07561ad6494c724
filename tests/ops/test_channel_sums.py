"""Channel sums as an operator of torch; the kernel's own tests are in tests/kernels."""

import pytest
import torch

from fastgan.ops import channel_sums as op
from fastgan.ops import tickets


def random(dtype):
    image = torch.randn(3, 4, 5, 2).to(dtype).contiguous(memory_format=torch.channels_last)
    return [image, torch.randn(7, 3).to(dtype)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sums_one_behind_the_other(dtype):
    image, vectors = random(dtype)
    expected = torch.cat([image.sum((0, 2, 3)), vectors.sum(0)])
    assert torch.equal(torch.ops.fastgan.channel_sums([image, vectors]), expected)


def test_the_operator_is_as_torch_expects_it():
    torch.library.opcheck(torch.ops.fastgan.channel_sums.default, (random(torch.float32),))


def test_the_check_on_first_use_sees_a_wrong_sum(monkeypatch):
    cpu = torch.device("cpu")
    assert op.self_check("triton", cpu) is None
    right = op.channel_sums
    monkeypatch.setattr(op, "channel_sums", lambda tensors: right(tensors) * 1.02)
    assert "sums of torch.float32" in op.self_check("triton", cpu)
    monkeypatch.setattr(op, "channel_sums", lambda tensors: right(tensors[:-1]))
    assert "instead of" in op.self_check("triton", cpu)


def test_tickets_are_made_once_a_device_and_operator_and_never_while_a_graph_is_recorded(monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed")
    tickets.tickets.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    cpu = torch.device("cpu")
    first = tickets.tickets(cpu, "some sums")
    assert not first.any()
    assert tickets.tickets(cpu, "some sums") is first
    assert tickets.tickets(cpu, "other sums") is not first
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert tickets.tickets(cpu, "some sums") is first
    with pytest.raises(RuntimeError, match="first call on cpu of new sums"):
        tickets.tickets(cpu, "new sums")
    tickets.tickets.cache_clear()
