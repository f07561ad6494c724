import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from fastgan.errors import DiskError, UserError
from fastgan.run import checkpoint

SNAPSHOT = {"kind": "snapshot"}


def _tensors() -> dict[str, torch.Tensor]:
    tied = torch.randn(6, 4)
    return {
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "transposed": torch.randn(3, 5).t(),
        "tied_a": tied,
        "tied_b": tied,
        "slice": tied[2:4],
        "rng": torch.get_rng_state(),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "bf16": torch.randn(5).bfloat16(),
        "step": torch.tensor(2**40),
        "mask": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }


def _states(folder: Path, *nimgs: int) -> None:
    for nimg in nimgs:
        checkpoint.save_tensors(
            folder / checkpoint.state_name(nimg), {"a": torch.ones(3)}, {"kind": "state", "nimg": nimg}
        )


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_names_count_whole_kimg():
    assert checkpoint.snapshot_name(200_999) == "network-snapshot-000200.safetensors"
    assert checkpoint.state_name(64) == "training-state-000000.safetensors"
    assert checkpoint.fakes_name(25_000_000) == "fakes025000.png"


def test_round_trip_keeps_every_bit_dtype_and_shape(tmp_path):
    tensors = _tensors()
    header = {
        "kind": "state",
        "nimg": 128,
        "options": {"lr": 2e-4, "name": "dcgan é", "betas": [0.5, 0.999], "c_dim": None},
    }
    checkpoint.save_tensors(tmp_path / "a.safetensors", tensors, header)
    loaded, loaded_header = checkpoint.load_tensors(tmp_path / "a.safetensors", "state")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert loaded_header == {"format": checkpoint.FORMAT, **header}


def test_header_is_one_json_string_that_other_programs_can_read(tmp_path):
    checkpoint.save_tensors(tmp_path / "a.safetensors", {"a": torch.ones(1)}, SNAPSHOT)
    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        assert json.loads(file.metadata()["fastgan"]) == {"format": checkpoint.FORMAT, "kind": "snapshot"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_tensors_come_back_on_the_cpu(tmp_path):
    tensor = torch.randn(3, 4, device="cuda")
    checkpoint.save_tensors(tmp_path / "a.safetensors", {"a": tensor, "b": tensor}, SNAPSHOT)
    loaded, _ = checkpoint.load_tensors(tmp_path / "a.safetensors", "snapshot")
    assert loaded["b"].device.type == "cpu"
    assert torch.equal(loaded["b"], tensor.cpu())


def test_unknown_kind_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="kind"):
        checkpoint.save_tensors(tmp_path / "a.safetensors", {}, {"kind": "weights"})
    assert not list(tmp_path.iterdir())


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "a.safetensors", tmp_path):
        with pytest.raises(UserError, match="there is no file") as caught:
            checkpoint.load_tensors(path, "snapshot")
        assert str(path) in str(caught.value)


def test_pickles_are_refused_by_name(tmp_path):
    legacy, zipped, plain = tmp_path / "legacy.pt", tmp_path / "zipped.pt", tmp_path / "network.pkl"
    torch.save({"a": torch.ones(3)}, legacy, _use_new_zipfile_serialization=False)
    torch.save({"a": torch.ones(3)}, zipped)
    plain.write_bytes(pickle.dumps({"a": [1.0]}))
    for path in (legacy, zipped, plain):
        with pytest.raises(UserError, match="is a pickle, which fastgan never loads") as caught:
            checkpoint.load_tensors(path, "snapshot")
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("low_byte", [0x80, ord("P")])
def test_a_file_whose_length_begins_like_a_pickle_still_loads(tmp_path, low_byte):
    path = tmp_path / "a.safetensors"
    for padding in range(0, 600, 4):
        checkpoint.save_tensors(path, {"a": torch.ones(1)}, {"kind": "snapshot", "padding": "x" * padding})
        if path.read_bytes()[0] == low_byte:
            break
    else:
        pytest.fail("no header of that length was made")
    assert checkpoint.load_tensors(path, "snapshot")[0]["a"].item() == 1
    _truncate(path)
    with pytest.raises(UserError, match="truncated"):
        checkpoint.load_tensors(path, "snapshot")


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"hello, this is a text file", b"\xff" * 9])
def test_foreign_content_is_refused(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.safetensors is damaged, truncated or not a safetensors file"):
        checkpoint.load_tensors(path, "snapshot")


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoint.save_tensors(path, {"a": torch.ones(8)}, SNAPSHOT)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="truncated"):
            checkpoint.load_tensors(path, "snapshot")


def test_a_foreign_safetensors_file_a_newer_format_and_a_damaged_header(tmp_path):
    path = tmp_path / "a.safetensors"
    newer = json.dumps({"format": checkpoint.FORMAT + 1, "kind": "snapshot"})
    for text, message in ((None, "another program"), (newer, "newer fastgan"), ("{", "damaged"), ("[]", "damaged")):
        save_file({"a": torch.ones(1)}, path, None if text is None else {"fastgan": text})
        with pytest.raises(UserError, match=message) as caught:
            checkpoint.load_tensors(path, "snapshot")
        assert str(path) in str(caught.value)


def test_the_other_kind_is_refused(tmp_path):
    _states(tmp_path, 1000)
    with pytest.raises(UserError, match="is a training state, but a network snapshot is needed"):
        checkpoint.load_tensors(tmp_path / checkpoint.state_name(1000), "snapshot")


def test_load_into_copies_in_place():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(
        memory_format=torch.channels_last
    )
    before = {name: (tensor.data_ptr(), tensor.stride()) for name, tensor in module.state_dict().items()}
    parameters = list(module.parameters())
    tensors = {f"G.{name}": torch.rand(tensor.shape).to(tensor.dtype) for name, tensor in module.state_dict().items()}
    checkpoint.load_into(module, {**tensors, "D.other": torch.ones(1)}, "G.", "a.safetensors")
    assert {name: (tensor.data_ptr(), tensor.stride()) for name, tensor in module.state_dict().items()} == before
    assert all(new is old and new.requires_grad for new, old in zip(module.parameters(), parameters, strict=True))
    assert all(torch.equal(tensor, tensors[f"G.{name}"]) for name, tensor in module.state_dict().items())


def test_load_into_named_tensors_that_require_grad():
    weight = torch.zeros(3, requires_grad=True)
    checkpoint.load_into({"weight": weight}, {"weight": torch.arange(3.0)}, "", "a.safetensors")
    assert weight.tolist() == [0, 1, 2]
    assert weight.is_leaf


@pytest.mark.parametrize(("change", "message"), [
    ({"G.b": torch.ones(3, 2)}, r"G\.b is \[3, 2\] in the file and \[2, 3\] in this run"),
    ({"G.b": None}, r"G\.b is absent in the file and \[2, 3\] in this run"),
    ({"G.c": torch.ones(5)}, r"G\.c is \[5\] in the file and absent in this run"),
])
def test_load_into_copies_nothing_unless_everything_fits(change, message):
    target = {"a": torch.zeros(4), "b": torch.zeros(2, 3)}
    tensors = {"G.a": torch.ones(4), "G.b": torch.ones(2, 3), **change}
    with pytest.raises(UserError, match=r"a\.safetensors is of another architecture: " + message):
        checkpoint.load_into(
            target, {name: tensor for name, tensor in tensors.items() if tensor is not None}, "G.", "a.safetensors"
        )
    assert not target["a"].any()


def test_latest_state_is_the_highest_kimg_as_a_number(tmp_path):
    _states(tmp_path, 9_000, 1_000_000_000, 999_999_000)
    (tmp_path / "training-state-best.safetensors").touch()
    assert checkpoint.latest_state(tmp_path) == (tmp_path / "training-state-1000000.safetensors", [])


def test_latest_state_tells_of_a_damaged_newer_one(tmp_path):
    _states(tmp_path, 1000, 2000)
    _truncate(tmp_path / checkpoint.state_name(2000))
    path, notes = checkpoint.latest_state(tmp_path)
    assert path.name == checkpoint.state_name(1000)
    assert len(notes) == 1
    assert checkpoint.state_name(2000) in notes[0]


def test_no_state_to_resume_from(tmp_path):
    with pytest.raises(UserError, match="no training state to resume from"):
        checkpoint.latest_state(tmp_path / "absent")
    _states(tmp_path, 1000)
    _truncate(tmp_path / checkpoint.state_name(1000))
    with pytest.raises(UserError, match="truncated"):
        checkpoint.latest_state(tmp_path)


def test_remove_older_states_never_counts_a_damaged_one(tmp_path):
    _states(tmp_path, 1000, 2000, 3000, 4000)
    _truncate(tmp_path / checkpoint.state_name(4000))
    checkpoint.save_tensors(tmp_path / checkpoint.snapshot_name(1000), {}, SNAPSHOT)
    checkpoint.remove_older_states(tmp_path, keep=1)
    kept = {checkpoint.state_name(3000), checkpoint.state_name(4000), checkpoint.snapshot_name(1000)}
    assert {path.name for path in tmp_path.iterdir()} == kept


@given(nimgs=st.sets(st.integers(0, 10**6), max_size=5), keep=st.integers(1, 4))
def test_remove_older_states_keeps_the_newest(nimgs, keep):
    with tempfile.TemporaryDirectory() as folder:
        _states(Path(folder), *nimgs)
        names = sorted(path.name for path in Path(folder).iterdir())
        checkpoint.remove_older_states(folder, keep)
        assert sorted(path.name for path in Path(folder).iterdir()) == names[-keep:]


def _half_written(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content[:len(content) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _read_only(*arguments, **options):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.mark.parametrize(("name", "replacement", "reason"), [
    ("pathlib.Path.write_bytes", _half_written, "No space left"), ("tempfile.mkstemp", _read_only, "Read-only"),
])
def test_a_refusing_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name, replacement, reason):
    path = tmp_path / "a.safetensors"
    checkpoint.save_tensors(path, {"a": torch.ones(1000)}, SNAPSHOT)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(name, replacement)
        with pytest.raises(DiskError, match=reason) as caught:
            checkpoint.save_tensors(path, {"a": torch.zeros(1000)}, SNAPSHOT)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


_WRITER = """
import sys, torch
from fastgan.run.checkpoint import save_tensors
count = 0
while True:
    count += 1
    save_tensors(sys.argv[1], {"a": torch.full((1_000_000,), count % 128, dtype=torch.uint8)}, \
{"kind": "state", "count": count})
"""


@pytest.mark.parametrize("delay", [0.0, 0.007, 0.031])
def test_a_kill_while_writing_leaves_a_whole_file(tmp_path, delay):
    path = tmp_path / "a.safetensors"
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], cwd=Path(checkpoint.__file__).parents[2])
    while not path.exists() and writer.poll() is None:
        time.sleep(0.01)
    time.sleep(delay)
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    tensors, header = checkpoint.load_tensors(path, "state")
    assert (tensors["a"] == header["count"] % 128).all()
