"""The surroundings of a run: its folder, the machine's limits and environment, its archive.

The archive is all evidence in one file of a bounded size. The least important files are left out
first, and it lists the omitted ones.
"""
import datetime
import io
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

from fastgan.bench.gpu.plan import MEMORY_SHARE, SLOTS, UNKNOWN_MEMORY_GB
from fastgan.bench.gpu.stage import Limits, cores
from fastgan.bench.places import CHECKOUT, KEPT, RESULTS
from fastgan.errors import DiskError, UserError

CORES_A_SLOT = 3  # a stage that compiles keeps about this number busy


def default_out(is_rehearsal: bool = False) -> Path:
    """Return a folder of its own for every run.

    It lies where rows are kept (places.py); that of a rehearsal elsewhere.
    """
    name = f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
    return Path(tempfile.gettempdir(), f"fastgan-rehearsal-{name}") if is_rehearsal else RESULTS / f"gpu-{name}"


def refuse_results(out: Path) -> None:
    """Raise UserError where a rehearsal would write among the results."""
    if CHECKOUT and out.resolve().is_relative_to(RESULTS):
        raise UserError(
            f"--out {out} is among the results, and a rehearsal has none: give another folder, or leave --out away"
        )


def limits() -> Limits:
    """Return the places of the plan, fewer on few cores, and the memory of the first GPU."""
    return Limits(max(1, min(SLOTS, cores() // CORES_A_SLOT)), MEMORY_SHARE * (memory_gb() or UNKNOWN_MEMORY_GB))


def memory_gb() -> float | None:
    """Return the total memory of the first GPU; None where nvidia-smi does not report it."""
    command = ("nvidia-smi", "--id=0", "--format=csv,noheader,nounits", "--query-gpu=memory.total")
    try:
        return (
            float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout) * 2**20 / 1e9
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def environment(slots: int, cache: Path | None) -> dict[str, str]:
    """Return the environment variables of every stage.

    They hold its share of the cores for compiling, and the caches of Inductor, Triton and fastgan
    in one folder, where there is one.
    """
    shared = {"TORCHINDUCTOR_COMPILE_THREADS": str(max(1, cores() // slots))}
    if cache is None:
        return shared
    names = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "FASTGAN_CACHE": "fastgan"}
    return shared | {KEPT: "1"} | {name: str(cache.resolve() / folder) for name, folder in names.items()}


# --- the archive ------------------------------------------------------------------------------------------------------

ARCHIVE, LEFT_OUT = "evidence.tar.gz", "left-out.txt"
ARCHIVE_BYTES = 15 << 20  # bytes: a place that takes files of 16 MiB must take it
OVERHEAD = 2048  # bytes of the archive for a file, beside its compressed content, at most
# From the most important on: suffixes and names of what the stages leave. Anything else comes last.
ORDER = ("refusals.jsonl", "said.txt", ".jsonl", ".md", ".json", "ncu.csv", ".txt", ".py", ".cpp", ".json.gz")


def write_archive(out: Path, work: Path, findings: Path, limit: int = ARCHIVE_BYTES) -> str:
    """Pack the evidence of a run by importance.

    First the files of `out`, then what fastgan found out about operators, in the folder `findings`,
    then the files of `work`.

    Returns a sentence about the archive in `out`, and raises nothing: it is the last thing that a
    run does.
    """
    try:
        kept, left_out, size = _write(out / ARCHIVE, _members(out, work, findings), limit)
    except (OSError, DiskError, tarfile.TarError) as error:
        return f"no archive was written: {type(error).__name__}: {error}"
    more = f", without {len(left_out)} files that did not fit ({LEFT_OUT} names them)" if left_out else ""
    return f"evidence: {kept} files in {out / ARCHIVE}, {size / 2**20:.1f} MiB{more}"


def _members(out: Path, work: Path, findings: Path) -> list[tuple[str, Path]]:
    """Return pairs (name in the archive, file), the most important first."""
    of_run = [(path.name, path) for path in sorted(out.glob("*")) if path.is_file() and path.name != ARCHIVE]
    found = [(f"findings/{path.name}", path) for path in sorted(findings.glob("*.json"))]
    of_stages = [(f"stages/{path.relative_to(work)}", path) for path in sorted(work.rglob("*")) if path.is_file()]
    return [*of_run, *found, *sorted(of_stages, key=lambda member: _importance(member[1]))]


def _importance(path: Path) -> int:
    """Return the place in ORDER; the smaller, the more important."""
    return next(
        (number for number, ending in enumerate(ORDER) if path.name.endswith(ending) and _is_of_its_kind(path, ending)),
        len(ORDER),
    )


def _is_of_its_kind(path: Path, ending: str) -> bool:
    return ending.startswith(".") or path.name == ending


def _write(path: Path, members: list[tuple[str, Path]], limit: int) -> tuple[int, list[str], int]:
    """Write the archive; return (files in it, names of the files left out, bytes)."""
    chosen, left_out, room = [], [], limit - 64 * 1024  # what names the files that were left out needs room too
    for name, file in members:
        content = file.read_bytes()
        size = len(zlib.compress(content, 6)) + OVERHEAD
        if size <= room:
            chosen.append((name, content))
            room -= size
        else:
            left_out.append(f"{name} {len(content)} bytes")
    if left_out:
        chosen.append((LEFT_OUT, ("\n".join(left_out) + "\n").encode()[: 32 * 1024]))
    packed = _packed(chosen)
    if len(packed) > limit:
        raise DiskError(f"the archive would be {len(packed)} bytes, more than {limit}")
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(packed)
    beside.replace(path)
    return len(chosen), left_out, len(packed)


def _packed(contents: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
        for name, content in contents:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
