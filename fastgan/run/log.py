"""The records of a run.

log.txt for people, stats.jsonl and metrics.jsonl for programs, event files for TensorBoard.
"""
import json
import math
import os
import time
from pathlib import Path

from fastgan.errors import DiskError, UserError
from fastgan.files import write_text

STATS, METRICS = "stats.jsonl", "metrics.jsonl"


class RunLog:
    """The log of the run in `run_dir`, which is created.

    `resume_nimg`: the run continues from that many images, so rows beyond them are dropped; None: a
    new run, refused with a UserError where `run_dir` holds one already. `tensorboard`: write event
    files as well (UserError where the package is missing).
    """

    def __init__(self, run_dir: str | os.PathLike, tensorboard: bool = False, resume_nimg: int | None = None):
        self._log_path, self._stats_path, self._metrics_path = (
            Path(run_dir, name) for name in ("log.txt", STATS, METRICS)
        )
        if resume_nimg is None:
            refuse_existing_run(Path(run_dir))
        writer_class = _summary_writer_class() if tensorboard else None
        _create_folder(Path(run_dir))
        for path in (self._stats_path, self._metrics_path):
            if path.exists() or path == self._stats_path:
                _write_rows(path, [row for row in read_rows(run_dir, path.name) if row["nimg"] <= (resume_nimg or 0)])
        # Events of the abandoned continuation stay in their file, but TensorBoard hides them from
        # this step on
        self._writer = writer_class(run_dir, purge_step=(resume_nimg or 0) + 1) if tensorboard else None

    def write(self, text: str) -> None:
        """Append `text` to log.txt with the UTC time before it. Raises DiskError."""
        _append(self._log_path, f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}")

    def row(self, stats: dict) -> None:
        """Append one JSON line to stats.jsonl and the numbers among `stats` to the event files.

        Raises DiskError. `stats` holds "nimg" and any numbers, strings and nulls. Floats that are
        not finite become null, with their names listed under "nonfinite", since JSON has no NaN.
        """
        self._append_row(self._stats_path, stats)

    def measured(self, stats: dict) -> None:
        """Append one JSON line to metrics.jsonl, in the same way."""
        self._append_row(self._metrics_path, stats)

    def _append_row(self, path: Path, stats: dict) -> None:
        nonfinite = [name for name, value in stats.items() if isinstance(value, float) and not math.isfinite(value)]
        row = {**stats, **dict.fromkeys(nonfinite), **({"nonfinite": nonfinite} if nonfinite else {})}
        _append(path, json.dumps(row, allow_nan=False))
        if self._writer is not None:
            self._write_events(stats)

    def close(self) -> None:
        """Finish the event files; the text files are complete after every call."""
        if self._writer is not None:
            self._writer.close()

    def _write_events(self, stats: dict) -> None:
        try:
            for name, value in stats.items():
                if isinstance(value, int | float) and name != "nimg":
                    self._writer.add_scalar(name, value, global_step=stats["nimg"])
            self._writer.flush()
        except OSError as error:
            raise DiskError(
                f"cannot write the TensorBoard events in {self._writer.log_dir}: {error.strerror or error}"
            ) from error


def read_rows(run_dir: str | os.PathLike, name: str = STATS) -> list[dict]:
    """Return the rows of stats.jsonl, or metrics.jsonl, in order; none where there is no file yet.

    A last line that a kill has torn is left out. Raises UserError when another line is damaged.
    """
    path = Path(run_dir, name)
    lines = path.read_bytes().splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise UserError(f"line {number} of {path} is damaged; remove that line") from error
    return rows


def refuse_existing_run(run_dir: Path) -> None:
    if (run_dir / STATS).exists():
        raise UserError(
            f"{run_dir} already holds a run; continue it with --resume {run_dir} or give another folder with --out"
        )


def _summary_writer_class() -> type:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "event files need the package tensorboard; install it with `pip install tensorboard`"
        ) from error
    return SummaryWriter


def _create_folder(run_dir: Path) -> None:
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"{run_dir} cannot be a folder, since a file is in its place; give another folder with --out"
        ) from error
    except OSError as error:
        raise DiskError(f"cannot create the folder {run_dir}: {error.strerror or error}") from error


def _write_rows(path: Path, rows: list[dict]) -> None:
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _append(path: Path, line: str) -> None:
    # Opened for each line: a buffer kept over calls would write a failed line again when closed
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror or error}") from error
