"""All evidence of a run in one file of a bounded size.

The least important files are left out first, and the archive lists the omitted files.
"""

import io
import tarfile
import zlib
from pathlib import Path

from fastgan.errors import DiskError

NAME, LEFT_OUT = "evidence.tar.gz", "left-out.txt"
LIMIT = 15 << 20  # bytes: a place that takes files of 16 MiB must take it
OVERHEAD = 2048  # bytes of the archive for a file, beside its compressed content, at most
# From the most important on: suffixes and names of what the stages leave. Anything else comes last.
ORDER = ("refusals.jsonl", "said.txt", ".jsonl", ".md", ".json", "ncu.csv", ".txt", ".py", ".cpp", ".json.gz")


def write(out: Path, work: Path, findings: Path, limit: int = LIMIT) -> str:
    """Pack the evidence of a run by importance.

    First the files of `out`, then what fastgan found out about operators, in the folder `findings`,
    then the files of `work`.

    Returns a sentence about the archive in `out`, and raises nothing: it is the last thing that a
    run does.
    """
    try:
        kept, left_out, size = _write(out / NAME, _members(out, work, findings), limit)
    except (OSError, DiskError, tarfile.TarError) as error:
        return f"no archive was written: {type(error).__name__}: {error}"
    more = f", without {len(left_out)} files that did not fit ({LEFT_OUT} names them)" if left_out else ""
    return f"evidence: {kept} files in {out / NAME}, {size / 2**20:.1f} MiB{more}"


def _members(out: Path, work: Path, findings: Path) -> list[tuple[str, Path]]:
    """Return pairs (name in the archive, file), the most important first."""
    of_run = [(path.name, path) for path in sorted(out.glob("*")) if path.is_file() and path.name != NAME]
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
