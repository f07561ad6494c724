"""Network snapshots and training states, as safetensors files.

A file has tensors and a JSON header, never a pickle. A resumed run continues from a state:
networks, optimisers, moving average, random numbers and position in the data; to the bit on a CPU,
and on CUDA where the run is deterministic (determinism.py), else up to the roundings of algorithms
that are chosen by their speed.
"""
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fastgan.errors import DiskError, UserError
from fastgan.files import write_beside_and_rename
from fastgan.gan.train_state import TrainState

FORMAT = 1  # raised when a newer file could no longer be understood by older code
_METADATA_KEY = "fastgan"
_KINDS = {"snapshot": "network snapshot", "state": "training state"}
BEST_SNAPSHOT = "network-snapshot-best.safetensors"
_SNAPSHOT_NAME = re.compile(r"network-snapshot-(\d+)\.safetensors")
_STATE_NAME = re.compile(r"training-state-(\d+)\.safetensors")


def snapshot_name(nimg: int) -> str:
    """Return the file name of the networks after `nimg` images.

    For example `network-snapshot-000200.safetensors` (kimg, rounded down).
    """
    return f"network-snapshot-{nimg // 1000:06d}.safetensors"


def state_name(nimg: int) -> str:
    """Return the file name of the state to resume from after `nimg` images.

    For example `training-state-000200.safetensors`.
    """
    return f"training-state-{nimg // 1000:06d}.safetensors"


def fakes_name(nimg: int) -> str:
    """Return the file name of the grid of generated images after `nimg` images.

    For example `fakes000200.png`.
    """
    return f"fakes{nimg // 1000:06d}.png"


def save_tensors(path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], header: dict) -> None:
    """Write named tensors and a JSON-able `header` to `path`.

    The tensors have any dtype, device, shape and memory format. `header["kind"]` is "snapshot" or
    "state"; the format number is added here. A kill at any moment leaves the old file or the new
    one. Raises DiskError when the disk refuses.
    """
    if header.get("kind") not in _KINDS:
        raise ValueError(f"header['kind'] must be one of {list(_KINDS)}, not {header.get('kind')!r}")
    metadata = {_METADATA_KEY: json.dumps({"format": FORMAT, **header})}
    # Serialised in memory and written by Python: the writer of safetensors reports a full disk as
    # an error of its own, not as an OSError.
    content = save(_without_shared_storage(tensors), metadata)
    write_beside_and_rename(path, lambda beside: beside.write_bytes(content))


def load_tensors(path: str | os.PathLike, kind: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Return the tensors (on the CPU) and the header of a file by `save_tensors` with this `kind`.

    Raises UserError when the file is missing, damaged, foreign, of another kind or written by a
    newer fastgan.
    """
    file, header = _open(Path(path), kind)
    return {name: file.get_tensor(name) for name in file.offset_keys()}, header


def read_header(path: str | os.PathLike, kind: str) -> dict:
    """Return the header alone; the errors are those of load_tensors."""
    return _open(Path(path), kind)[1]


def newest_snapshot(run_dir: str | os.PathLike) -> Path | None:
    """Return the snapshot of a run folder after the most images, not the best one."""
    return max(_numbered(run_dir, _SNAPSHOT_NAME), default=(0, None))[1]


@torch.no_grad()
def load_into(
    target: torch.nn.Module | Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    prefix: str,
    path: str | os.PathLike,
) -> None:
    """Copy `tensors[prefix + name]` into each tensor of `target`, in place.

    `target` is a module, by its state_dict, or a dict by name. Its tensors keep their identity,
    device, dtype and memory format. `prefix` includes its dot ("G_ema."); `path` is the file that
    the tensors came from, for messages. Raises UserError, with nothing copied, unless names and
    shapes all fit.
    """
    named = target.state_dict() if isinstance(target, torch.nn.Module) else target
    wanted = {prefix + name: tensor for name, tensor in named.items()}
    found = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    _check_same_shapes(wanted, found, path)
    for name, tensor in wanted.items():
        tensor.copy_(found[name])


def latest_state(run_dir: str | os.PathLike) -> tuple[Path, list[str]]:
    """Return the readable training state of the highest kimg in `run_dir`, and notes.

    The notes are one sentence for each newer state that cannot be read. Raises UserError when there
    is no readable state.
    """
    notes = []
    for path in _states_newest_first(run_dir):
        try:
            _open(path, "state")
        except UserError as error:
            notes.append(str(error))
        else:
            return path, notes
    reason = f" ({notes[0]})" if notes else ""
    raise UserError(
        f"no training state to resume from in {run_dir}{reason}; give the folder of a run that saved "
        "training-state-*.safetensors"
    )


def remove_older_states(run_dir: str | os.PathLike, keep: int) -> None:
    """Delete all but the `keep` (at least 1) newest readable training states of `run_dir`.

    Raises DiskError.
    """
    for path in [path for path in _states_newest_first(run_dir) if _is_readable_state(path)][max(keep, 1):]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DiskError(f"cannot remove {path}: {error.strerror or error}") from error


def _without_shared_storage(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return contiguous CPU tensors of which no two share storage, as the format demands.

    Tied weights share storage.
    """
    separate, storages = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.untyped_storage().data_ptr() in storages:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor
    return separate


def _open(path: Path, kind: str) -> tuple[safe_open, dict]:
    """Open a file and return it with its checked header.

    The tensors stay on the disk, but a truncated file is noticed here.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; give a {_KINDS[kind]} that fastgan wrote")
    try:
        file = safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise UserError(_why_unreadable(path, error)) from error
    header = _header(file, path)
    if header.get("kind") != kind:
        raise UserError(
            f"{path} is a {_KINDS.get(header.get('kind'), 'file of an unknown kind')}, but a {_KINDS[kind]} is "
            "needed here"
        )
    return file, header


def _header(file: safe_open, path: Path) -> dict:
    text = (file.metadata() or {}).get(_METADATA_KEY)
    if text is None:
        raise UserError(f"{path} is a safetensors file of another program; give one that fastgan wrote")
    try:
        header = json.loads(text)
        newer = header["format"] > FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"the header of {path} is damaged; give an intact file") from error
    if newer:
        raise UserError(
            f"{path} was written by a newer fastgan (format {header['format']}, known here up to {FORMAT}); "
            "update fastgan to read it"
        )
    return header


def _why_unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot read {path}: {error.strerror or error}"
    with open(path, "rb") as file:
        head = file.read(9)
    # The first 8 bytes of a safetensors file are a length, which may begin like a pickle; the brace
    # after it tells them apart.
    if head.startswith((b"PK", b"\x80")) and head[8:] not in (b"{", b""):
        return f"{path} is a pickle, which fastgan never loads; give a .safetensors file that fastgan wrote"
    return f"{path} is damaged, truncated or not a safetensors file ({error}); give an intact one"


def _check_same_shapes(
    wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], path: str | os.PathLike
) -> None:
    for name in [*wanted, *sorted(found.keys() - wanted.keys())]:
        here, there = (str(list(tensors[name].shape)) if name in tensors else "absent" for tensors in (wanted, found))
        if here != there:
            raise UserError(f"{path} is of another architecture: {name} is {there} in the file and {here} in this run; "
                            "use the options the file was trained with")


def _states_newest_first(run_dir: str | os.PathLike) -> list[Path]:
    return [path for _, path in sorted(_numbered(run_dir, _STATE_NAME), reverse=True)]


def _numbered(run_dir: str | os.PathLike, name: re.Pattern) -> list[tuple[int, Path]]:
    """Return (kimg, path) of the files with such a name."""
    matches = [(name.fullmatch(path.name), path) for path in Path(run_dir).glob("*.safetensors")]
    return [(int(match[1]), path) for match, path in matches if match]


def _is_readable_state(path: Path) -> bool:
    try:
        _open(path, "state")
    except UserError:
        return False
    return True


def state_tensors(state: TrainState, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return every tensor that the next step depends on.

    The position in the data is `nimg`, which the header keeps.
    """
    tensors = {f"{group}/{name}": tensor for group, named in state.tensors().items() for name, tensor in named.items()}
    tensors |= {"random/run": generator.get_state(), "random/torch": torch.get_rng_state()}
    if generator.device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(generator.device)
    return tensors


def load_state(folder: Path, state: TrainState, generator: torch.Generator) -> tuple[dict, list[str]]:
    """Put the newest complete state of a run folder back in place.

    Returns (header, notes for the log).
    """
    path, notes = latest_state(folder)
    tensors, header = load_tensors(path, "state")
    for group, named in state.tensors().items():
        load_into(named, tensors, f"{group}/", path)
    generator.set_state(tensors["random/run"])
    torch.set_rng_state(tensors["random/torch"])
    if generator.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random/cuda"], generator.device)
    return header, [*notes, f"resuming from {path} at {header['nimg'] / 1000:g} kimg"]


