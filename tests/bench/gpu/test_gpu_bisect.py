"""The culprit among the variants, and the order of the trials.

Variants run on real steps with a stand-in for CUDA graphs.
"""

import dataclasses
import json
import sys

import pytest
import torch

from fastgan.bench import json_lines, step_cases
from fastgan.bench.gpu import bisect, variants
from fastgan.bench.gpu.stage import Stage
from fastgan.bench.gpu.variants import AS_REFUSED, DRAW, EAGER_STEP, READ, REFERENCE, WITHOUT
from fastgan.bench.recorded_graphs import RecordedGraphs
from fastgan.config import replace
from fastgan.ops.dispatch import autotune, registry
from fastgan.run import build

CASE = {"preset": "mlp", "batch_size": 8, "resolution": 8, "channels": 1, "amp": False}
REFUSAL = {
    "kind": "refusal",
    **CASE,
    "wanted": "captured",
    "got": "eager",
    "refused": ["captured"],
    "reasons": ["no"],
    "tracebacks": [],
}
REFUSED_IN = Stage("a", ("a",), 1, 1, "results.jsonl", "", environment=(("KEY", "value"),))


def outcomes(works: dict[str, bool]) -> dict[str, dict]:
    return {
        name: {"works": each, "reason": "" if each else f"{name} failed", "traceback": ""}
        for name, each in works.items()
    }


@pytest.mark.parametrize(
    ("works", "name", "words"),
    [
        ({DRAW: False, READ: False}, DRAW, "drawing the random numbers"),
        ({DRAW: True, READ: False}, READ, "reading the images"),
        ({DRAW: True, READ: True, AS_REFUSED: False, EAGER_STEP: False, REFERENCE: False}, EAGER_STEP,
         "the step, uncompiled"),
        ({AS_REFUSED: True, REFERENCE: True}, "", "it cannot be found"),
        ({AS_REFUSED: False, REFERENCE: True, "deconv=subpixel": True, "deconv=cuda": False, "adam_ema=triton": False},
         "deconv=cuda", "the operator deconv=cuda"),
        ({AS_REFUSED: False, REFERENCE: True, "deconv=cuda": True}, AS_REFUSED, "operators, but none of them alone"),
        ({AS_REFUSED: False, REFERENCE: False, WITHOUT + "a": False, WITHOUT + "b": True}, REFERENCE,
         "the compiler's option b"),
        ({AS_REFUSED: False, REFERENCE: False, WITHOUT + "a": False}, REFERENCE,
         "the compiled step with the reference operators, whatever"),
    ],
)  # fmt: skip
def test_the_first_culprit(works, name, words):
    found, said = bisect.culprit(outcomes(works))
    assert found == name
    assert said.startswith(words)


@pytest.mark.parametrize(
    ("rung", "wrong", "tried"),
    [
        ("captured", {DRAW}, [DRAW, READ]),
        ("captured", {AS_REFUSED, EAGER_STEP, REFERENCE}, [DRAW, READ, AS_REFUSED, EAGER_STEP, REFERENCE]),
        ("captured", {AS_REFUSED}, [DRAW, READ, AS_REFUSED, EAGER_STEP, REFERENCE, "deconv=cuda"]),
        ("compiled", {AS_REFUSED, REFERENCE}, [AS_REFUSED, REFERENCE, WITHOUT + "option"]),
        ("compiled", set(), [AS_REFUSED, REFERENCE]),
    ],
)
def test_what_is_tried_and_what_it_writes(tmp_path, monkeypatch, rung, wrong, tried):
    def try_one(variant, case, rung):
        beyond = (
            {"operators": ["deconv=cuda"], "options": [WITHOUT + "option"]}
            if variant in (AS_REFUSED, REFERENCE)
            else {}
        )
        return {**outcomes({variant: variant not in wrong})[variant], **beyond}

    monkeypatch.setattr(bisect, "try_one", try_one)
    row = bisect.bisect(CASE, rung, tmp_path / "rows.jsonl")
    found = json_lines.rows_since(tmp_path / "rows.jsonl")
    assert [each["variant"] for each in found[:-1]] == tried
    assert found[-1] == row
    assert (row["kind"], row["preset"], row["rung"]) == ("culprit", "mlp", rung)


def test_a_stage_for_a_refusal_and_no_more_than_some():
    stage = bisect.stage_for(REFUSAL, REFUSED_IN, 0)
    options = stage.command("rows.jsonl")
    assert stage.name == "bisect-1"
    assert json.loads(options[options.index("--case") + 1]) == CASE
    assert options[options.index("--rung") + 1] == "captured"
    assert stage.environment == REFUSED_IN.environment
    assert bisect.stage_for(REFUSAL, REFUSED_IN, bisect.MOST) is None
    assert bisect.stage_for({**REFUSAL, "refused": []}, REFUSED_IN, 0) is None  # other sizes of a launch, say


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.abort()", "its process was killed by SIGABRT"),
        ("import time; time.sleep(60)", "it was stopped after 0 s"),
    ],
)
def test_a_variant_that_crashes_or_hangs_is_an_outcome(monkeypatch, code, reason):
    monkeypatch.setattr(
        bisect, "python", lambda *arguments: [sys.executable, "-c", "print('last words', flush=True); " + code]
    )
    outcome = bisect.try_one(DRAW, CASE, "captured", seconds=0.3 if "sleep" in code else 20.0)
    assert (outcome["works"], outcome["reason"]) == (False, reason)
    assert "last words" in outcome["traceback"] or "sleep" in code


# --- variants of a real step ------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(monkeypatch):
    """Return (a maker of cases, a setter of graphs): tiny steps whose graphs are a stand-in's."""
    monkeypatch.setattr(autotune, "_forced", {})

    def graphs_are(graphs):
        monkeypatch.setattr(build, "graphs_of", lambda device, generators: graphs)

    graphs_are(RecordedGraphs())
    return graphs_are


def small_case():
    case = step_cases.make_case("mlp", 8, 8, 1)
    return dataclasses.replace(
        case,
        config=replace(replace(case.config, "run.amp", False), "model.G_hidden", (16,)),
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize("variant", [DRAW, READ, EAGER_STEP])
def test_what_needs_no_compiler_works_on_the_stand_in(recorded, variant):
    assert variants.run(small_case(), "captured", variant)["works"]


@pytest.mark.parametrize(
    ("refused", "works"),
    [("aten::randn", {DRAW: False, READ: False}), ("aten::index_select", {DRAW: True, READ: False})],
)
def test_what_a_machine_refuses_is_found_in_the_smallest_part(recorded, refused, works):
    for variant, expected in works.items():
        recorded(RecordedGraphs(frozenset([refused])))
        outcome = variants.run(small_case(), "captured", variant)
        assert outcome["works"] == expected, outcome
        assert expected or "cannot be recorded" in outcome["reason"]
        assert expected or outcome["traceback"].startswith("Traceback")


class Forgetful(RecordedGraphs):
    """Graphs whose replays do nothing: as with a generator that was not registered."""

    def record(self, body):
        super().record(body)
        return lambda: None


def test_replays_that_draw_other_numbers_are_found(recorded):
    recorded(Forgetful())
    outcome = variants.run(small_case(), "captured", DRAW)
    assert outcome == {
        "works": False,
        "reason": "a replay gives other numbers or images than the eager call",
        "traceback": "",
    }


def test_the_names_of_operators_and_options_can_be_forced_and_left_away(recorded):
    outcome = variants.run(small_case(), "captured", EAGER_STEP)
    assert WITHOUT + "fallback_random" in outcome["options"]
    assert "deconv=subpixel" in outcome["operators"]
    assert all(each.partition("=")[2] in registry.OPS[each.partition("=")[0]] for each in outcome["operators"])


@pytest.mark.thorough
def test_an_option_is_left_away_and_a_step_that_cannot_be_compiled_is_refused(recorded, monkeypatch):
    from fastgan.engine import compiled

    seen, compile_step = [], compiled.compile_step

    def compile_with(step, graphs, options):
        seen.append(set(options))
        return compile_step(step, graphs, options)

    monkeypatch.setattr(compiled, "compile_step", compile_with)
    assert variants.run(small_case(), "compiled", WITHOUT + "fallback_random")["works"]
    assert "fallback_random" not in seen[0]

    def refuse(step, graphs, options):
        raise RuntimeError("the compiler gives up")

    monkeypatch.setattr(compiled, "compile_step", refuse)
    outcome = variants.run(small_case(), "compiled", AS_REFUSED)
    assert not outcome["works"]
    assert "the compiler gives up" in outcome["reason"]
    assert "Traceback" in outcome["traceback"]


def test_main_writes_one_row(recorded, tmp_path, monkeypatch):
    arguments = [
        "--case",
        json.dumps(CASE),
        "--rung",
        "captured",
        "--variant",
        DRAW,
        "--rows",
        str(tmp_path / "rows.jsonl"),
    ]
    assert variants.main(arguments) == 0
    [row] = json_lines.rows_since(tmp_path / "rows.jsonl")
    assert (row["variant"], row["works"]) == (DRAW, True)
