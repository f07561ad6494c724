"""A running stage: its process, its files, and the time in which it could compute."""

from pathlib import Path

from bench.exclusive import SOCKET
from bench.gpu import rows
from bench.gpu.child import Child, Ending
from bench.gpu.names import EVIDENCE, REFUSALS
from bench.gpu.stage import Stage

LOG, STAGE_LOG = "log.txt", "said.txt"


class Running:
    """A stage that its making starts; `start` starts a process.

    Its files lie in `folder`. Lines that are added to them go to the same files in `out`.
    """

    def __init__(self, stage: Stage, start: type[Child], folder: Path, out: Path, turns: Path,
                 environment: dict[str, str], through: tuple[str, ...]):  # fmt: skip
        folder.mkdir(parents=True)
        self.stage, self.folder, self.out = stage, folder, out
        self.active_s = 0.0  # in which it was neither waiting for its turn nor standing still
        self._rows, self._said = rows.Tail(folder / stage.rows), rows.Tail(folder / STAGE_LOG)
        rows.append_text(out / LOG, f"==== {stage.name}: {stage.words()}\n")
        own = {SOCKET: str(turns), EVIDENCE: str(folder), **environment, **dict(stage.environment)}
        self.child = start(stage.command(str(folder / stage.rows), through), folder / STAGE_LOG, own)

    def collect(self) -> None:
        """Append the new rows and output of the stage to the files of the run."""
        for tail, file, head in ((self._rows, self.stage.rows, ""), (self._said, LOG, f"---- {self.stage.name}\n")):
            new = tail.lines()
            if new:
                rows.append_text(self.out / file, head + new)

    def found(self) -> list[dict]:
        """Return the rows of the stage so far."""
        return rows.since(self.folder / self.stage.rows)

    def refusals(self) -> list[dict]:
        """Return the rows about rungs that the engine left while it ran."""
        return rows.since(self.folder / REFUSALS)

    def reason(self, ending: Ending) -> str:
        """Return the reason why the stage did not end well: its ending and last output."""
        said = [line for line in self._words().splitlines() if line.strip()]
        return ": ".join(filter(None, (ending.reason, said[-1].strip() if ending.code and said else "")))

    def _words(self) -> str:
        path = self.folder / STAGE_LOG
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
