"""Bisection of a refused rung: find the part of the step that it is refused for.

`python -m fastgan.bench.gpu.bisect --case JSON --rung captured --rows FILE`

Each variant (variants.py) is a process of its own with a deadline, so that one that crashes or
hangs is an outcome as well. What is smaller than a step comes first, and ends the search where it
fails. Where the step works with the reference operators, each operator is then forced, else each
option of the compiler is left away. The first culprit is a row, beside one for every variant.
"""

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastgan.bench import json_lines
from fastgan.bench.gpu.evidence import EVIDENCE, REFUSABLE
from fastgan.bench.gpu.plan import RESULTS
from fastgan.bench.gpu.stage import ROWS, Stage, python
from fastgan.bench.gpu.variants import AS_REFUSED, DRAW, EAGER_STEP, READ, REFERENCE, WITHOUT
from fastgan.bench.places import ROOT
from fastgan.processes import Child, how_it_ended

VARIANT_S = 120.0  # in which a variant may compute
AT_ONCE = 4
PREFIX = "bisect-"  # of the names of the stages
EXPECTED_S, BUDGET_S, MOST = 60, 240, 3  # of the stage; and how many a run makes
SMALLER = {
    DRAW: "drawing the random numbers",
    READ: "reading the images",
    EAGER_STEP: "the step, uncompiled, with the reference operators",
}
CASE = ("preset", "batch_size", "resolution", "channels", "amp")  # the columns of a refusal that make its case again


def stage_for(refusal: dict, refused_in: Stage, num_before: int) -> Stage | None:
    """Return the stage that bisects a refused rung, from the row of the refusal.

    None where no rung was refused, or enough bisections have run.

    refused_in: the stage in whose environment the search goes on.
    """
    if not refusal["refused"] or num_before >= MOST:
        return None
    rung = refusal["refused"][0]
    arguments = (
        "-m",
        "fastgan.bench.gpu.bisect",
        "--case",
        json.dumps({key: refusal[key] for key in CASE}),
        "--rung",
        rung,
        "--rows",
        ROWS,
    )
    shows = f"why the {rung} step of {refusal['preset']} was refused"
    return Stage(f"{PREFIX}{num_before + 1}", arguments, EXPECTED_S, BUDGET_S, RESULTS, shows, memory_gb=AT_ONCE * 10,
                 slots=3, environment=refused_in.environment)  # fmt: skip


def bisect(case: dict, rung: str, path: Path) -> dict:
    """Try the variants and return the row of the culprit.

    A row for each variant is written as soon as its round is over, and then the row of the culprit.
    """
    # First what is smaller than a step, and needs no compiler.
    found = _try_all([DRAW, READ] if rung == "captured" else [], case, rung, path)
    if all(outcome["works"] for outcome in found.values()):
        found |= _try_all([AS_REFUSED, *([EAGER_STEP] if rung == "captured" else []), REFERENCE], case, rung, path)
        found |= _try_all(more_variants(found), case, rung, path)
    name, words = culprit(found)
    told = {key: found[name][key] if name else "" for key in ("reason", "traceback")}
    row = {"kind": "culprit", **case, "rung": rung, "culprit": words, **told}
    json_lines.append_row(path, row)
    print(f"{case['preset']} {rung}: {words}", flush=True)
    return row


def more_variants(found: dict[str, dict]) -> list[str]:
    """Return the variants that are worth trying after whole steps.

    These are every operator, every compiler option, or none.
    """
    if found[AS_REFUSED]["works"] or not found.get(EAGER_STEP, {"works": True})["works"]:
        return []
    key = "operators" if found[REFERENCE]["works"] else "options"
    return next((outcome[key] for outcome in found.values() if outcome.get(key)), [])


def culprit(found: dict[str, dict]) -> tuple[str, str]:
    """Return (the variant whose reason is the most informative, the first culprit in words).

    The variant may be empty. Both follow from the outcomes by variant, in the order of the trial.
    """
    wrong = [name for name, outcome in found.items() if not outcome["works"]]
    part = next((name for name in SMALLER if name in wrong), None)
    if part is not None:
        return part, SMALLER[part]
    if AS_REFUSED not in wrong:
        return "", "it cannot be found: the same step was not refused when it was tried again"
    if REFERENCE not in wrong:
        operators = [name for name in wrong if "=" in name]
        return (
            (operators[0], f"the operator {operators[0]}")
            if operators
            else (AS_REFUSED, "operators, but none of them alone")
        )
    options = [name for name, outcome in found.items() if name.startswith(WITHOUT) and outcome["works"]]
    if options:
        return REFERENCE, f"the compiler's option {options[0].removeprefix(WITHOUT)}"
    return REFERENCE, "the compiled step with the reference operators, whatever the option"


def _try_all(variants: list[str], case: dict, rung: str, path: Path) -> dict[str, dict]:
    """Return the outcomes in the order of the variants, AT_ONCE processes at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(lambda variant: try_one(variant, case, rung), variants))
    found = dict(zip(variants, outcomes, strict=True))
    for variant, outcome in found.items():
        json_lines.append_row(path, {"kind": "variant", **case, "rung": rung, "variant": variant, **outcome})
        print(f"{variant}: {'works' if outcome['works'] else outcome['reason']}", flush=True)
        if outcome["traceback"]:
            print(outcome["traceback"], flush=True)
    return found


def try_one(variant: str, case: dict, rung: str, seconds: float = VARIANT_S) -> dict:
    """Return the outcome of a variant in a process of its own.

    The process is in this process group, so that it stands still and ends with the stage.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, said = Path(folder, "rows.jsonl"), Path(folder, "said.txt")
        command = python(
            "-m",
            "fastgan.bench.gpu.variants",
            "--case",
            json.dumps(case),
            "--rung",
            rung,
            "--variant",
            variant,
            "--rows",
            str(path),
        )
        own = {name: value for name, value in os.environ.items() if name != EVIDENCE}  # what it refuses is no news
        with open(said, "wb") as output, Child(command, stdout=output, folder=ROOT, environment=own) as child:
            code = child.wait(seconds)
        ending = f"it was stopped after {seconds:.0f} s" if code is None else f"its process {how_it_ended(code)}"
        found = json_lines.rows_since(path)
        if found:
            return {key: value for key, value in found[0].items() if key != "variant"}
        return {"works": False, "reason": ending, "traceback": said.read_text(errors="replace")[-8000:]}


def main(arguments: list[str] | None = None) -> int:
    """Run the bisection; 0 where a culprit, or none, was found."""
    parser = argparse.ArgumentParser("python -m fastgan.bench.gpu.bisect")
    parser.add_argument(
        "--case", type=json.loads, required=True, metavar="JSON", help=f"an object with {', '.join(CASE)}"
    )
    parser.add_argument("--rung", choices=REFUSABLE, required=True)
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    bisect(options.case, options.rung, options.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
