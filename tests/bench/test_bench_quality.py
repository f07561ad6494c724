"""Quality training: the plan, the rows, the bars and the page."""
import dataclasses
import json

import pytest

from fastgan.bench import cli as command_line
from fastgan.bench.quality import bars, page
from fastgan.bench.quality.compare import p_better
from fastgan.bench.quality.quality_rows import Curve, QualityRow, command, latest
from fastgan.bench.quality.training_cases import COMPARED, EMBEDDED, PLAN, TrainingCase, chosen, data_name, with_asked
from fastgan.config.presets import PRESETS
from fastgan.config.validation import validate
from fastgan.errors import UserError

MACHINE = {"cpu": "a CPU", "cores": 2, "threads": 1, "flags": [], "memory_gb": 8, "gpu": None, "driver": None,
           "gpu_limits": None, "os": "an OS", "python": "3", "torch": "2", "triton": None}  # fmt: skip


def row(
    preset="mlp",
    data=EMBEDDED,
    seed=0,
    metric="fd_classifier_2k",
    values=(100.0, 10.0),
    implementation="fastgan",
    extra=None,
    **columns,
) -> dict:
    """Return a row with a curve of two points."""
    numbers = {metric: list(values), **(extra or {})}
    made = QualityRow(preset, data, 28, 1, 64, seed, implementation, "bf16", "compiled", [], 12.0, [0, 1000],
                      [0.0, 2.5], numbers, metric, "",
                      f"fastgan bench quality --preset {preset}", "2026-01-01", "abc", "2.13", MACHINE)  # fmt: skip
    return dataclasses.asdict(dataclasses.replace(made, **columns))


def test_every_case_of_the_plan_is_a_valid_run_of_a_known_preset():
    for case in (*PLAN, COMPARED):
        config = case.config(3)
        assert case.preset in PRESETS
        assert config.run.seed == 3
        assert config.run.kimg == case.kimg
        assert config.run.kimg / config.run.tick_kimg == pytest.approx(case.points)
        assert (config.run.epochs, config.run.steps) == (None, None)
        validate(config)


def test_changes_of_a_case_reach_its_configuration():
    assert TrainingCase("mlp", 1, changes=("lr_G=0.5",)).config(0).optim.lr_G == 0.5


def test_a_named_preset_runs_on_its_own_data_and_everything_where_none_is_named():
    assert [case.source for case in chosen(["sngan-tiny"])] == [EMBEDDED]
    assert chosen() == list(
        {case: case for name in dict.fromkeys(case.preset for case in PLAN) for case in PLAN if case.preset == name}
    )
    assert [case.source for case in chosen(["ring8"])] == ["ring8"]


def test_data_replace_the_embedded_set_and_stacked_ones_choose_the_counting_of_modes():
    (case,) = chosen(["cgan-tiny"], "faces.npz", seeds=4, kimg=7)
    assert (case.data, case.seeds, case.kimg) == ("faces.npz", 4, 7)
    stacked = chosen((), "stacked:mnist")
    assert {case.preset for case in stacked} == {case.preset for case in PLAN if case.source.startswith("stacked:")}
    assert {case.data for case in stacked} == {"stacked:mnist"}
    assert not any(case.is_density for case in chosen((), "faces.npz"))


def test_a_preset_outside_the_plan_can_be_trained_all_the_same():
    (case,) = chosen(["dcgan"], kimg=3)
    assert (case.preset, case.kimg) == ("dcgan", 3)


@pytest.mark.parametrize("arguments", [(["ring8"], "mnist"), (["no-such"],), (["mlp"], None, 0),
                                       (["mlp"], None, None, None, ["optim.no_such=1"]),
                                       (["mlp"], None, None, -1.0),
                                       (["mlp"], None, None, float("inf"))])  # fmt: skip
def test_what_cannot_be_trained_is_refused_in_a_sentence(arguments):
    with pytest.raises(UserError):
        chosen(*arguments)


def test_with_asked_keeps_what_is_not_asked_for():
    assert with_asked(COMPARED) == COMPARED
    assert with_asked(COMPARED, changes=["optim.lr_G=1.0"]) == dataclasses.replace(
        COMPARED, changes=("optim.lr_G=1.0",)
    )


@pytest.mark.parametrize(("name", "called"),
                         [("mnist.npz", "mnist"), ("stacked:mnist.npz", "stacked:mnist"), (EMBEDDED, EMBEDDED),
                                              ("stacked:fashion-mnist-10k", "stacked:fashion-mnist-10k")])  # fmt: skip
def test_data_are_called_by_their_names(name, called):
    assert data_name(name) == called


def test_a_curve_keeps_few_digits_and_no_infinity():
    curve = Curve()
    curve.add(0, 0.0, {"kl": float("inf"), "modes": 3.0})
    curve.add(64, 1.2345678, {"kl": 0.123456789, "modes": 4.0})
    assert curve.columns() == {
        "nimg": [0, 64],
        "train_s": [0.0, 1.2346],
        "numbers": {"kl": [None, 0.12346], "modes": [3.0, 4.0]},
    }
    json.dumps(curve.columns(), allow_nan=False)


def test_the_command_of_a_row_names_its_data_and_no_path():
    assert (
        command(TrainingCase("mlp", 5, "/home/somebody/mnist.npz"), "mnist")
        == "fastgan bench quality --preset mlp --data mnist --kimg 5 --seeds 1"
    )
    assert (
        command(TrainingCase("mlp", 5, changes=("lr_G=1",)), "mnist")
        == "fastgan bench quality --preset mlp --kimg 5 --seeds 1 --set lr_G=1"
    )


def test_of_the_same_training_the_last_row_counts_but_not_for_the_comparison():
    old, new, other_seed = row(values=(9.0, 8.0)), row(values=(9.0, 1.0)), row(seed=1)
    beside_plain = row(command="fastgan bench quality --compare-plain")
    assert latest([old, other_seed, beside_plain, new]) == [new, other_seed, beside_plain]


@pytest.mark.parametrize(("columns", "expected"), [
    ({}, "yes"),
    ({"values": (10.0, 11.0)}, "no"),
    ({"values": (10.0, None)}, "no"),
    ({"note": "diverged: d_loss became NaN", "values": (10.0, 1.0)}, "no"),
    ({"data": "gaussian", "metric": "mean", "values": (0.0, 3.95), "extra": {"std": [0.0, 1.2]}}, "yes"),
    ({"data": "gaussian", "metric": "mean", "values": (0.0, 3.95), "extra": {"std": [0.0, 1.0]}}, "no"),
    ({"preset": "ring8-gp", "data": "ring8", "metric": "modes", "values": (0.0, 8.0),
      "extra": {"high_quality": [0.0, 0.81]}}, "yes"),
    ({"preset": "grid25-gp", "data": "grid25", "metric": "modes", "values": (0.0, 24.0),
      "extra": {"high_quality": [0.0, 0.99]}}, "no"),
    ({"preset": "ring8", "data": "ring8", "metric": "modes", "values": (0.0, 2.0)}, ""),
    ({"metric": "modes26k", "values": (1.0, 700.0)}, "yes"),
    ({"metric": "accuracy2k", "data": "mnist", "values": (0.1, 0.89)}, "no"),
    ({"metric": "accuracy2k", "values": (0.1, 0.5)}, ""),
])  # fmt: skip
def test_bars(columns, expected):
    assert bars.reached([row(**columns)]) == expected


def test_a_bar_counts_seeds():
    assert bars.reached([row(), row(values=(1.0, 2.0)), row()]) == "2 of 3"


def test_p_is_the_share_of_orders_that_are_as_good():
    assert p_better([1, 2, 3], [4, 5, 6]) == pytest.approx(1 / 20)
    assert p_better([4, 5, 6], [1, 2, 3]) == 1.0


def test_the_page_shows_groups_seeds_pictures_and_the_comparison(tmp_path):
    compared = "fastgan bench quality --compare-plain --kimg 1 --seeds 3"
    rows = [row(seed=seed, values=(100.0, 10.0 + seed)) for seed in range(3)]
    rows += [
        row("cgan-tiny", "mnist", metric="accuracy2k", values=(0.1, 0.95), extra={"fd_classifier_2k": [9.0, None]})
    ]
    rows += [row("dcgan-tiny", seed=seed, values=(50.0, end + seed), implementation=name, command=compared)
             for name, end in (("fastgan", 5.0), ("plain", 20.0)) for seed in range(3)]  # fmt: skip
    results = tmp_path / "quality.jsonl"
    results.write_text("".join(json.dumps(each) + "\n" for each in rows))
    (tmp_path / "family").mkdir()
    (tmp_path / "family" / f"mlp-{EMBEDDED}.png").touch()
    page.write(results, tmp_path / "family.md")
    text = (tmp_path / "family.md").read_text()
    assert "fd_classifier_2k 100 → 11 (10 to 12)" in text
    assert f"![mlp-{EMBEDDED}](family/mlp-{EMBEDDED}.png)" in text
    assert "accuracy2k 0.1 → 0.95<br>fd_classifier_2k 9 → none" in text
    assert "p = 0.05" in text
    assert "Stacked digits" not in text
    assert (tmp_path / "family" / "curves-accuracy2k.png").stat().st_size < 60_000
    assert "](family/curves-fd_classifier_2k.png)" in text


def test_kept_rows_can_be_printed(tmp_path, capsys):
    results = tmp_path / "quality.jsonl"
    results.write_text(
        json.dumps(row()) + "\n" + json.dumps(row(implementation="plain", changes=["model.ngf=8"])) + "\n"
    )
    assert command_line.main(["table", str(results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    numbers = f"{EMBEDDED} 28x28x1 | fd_classifier_2k 100 → 10 | lower than before training | yes |"
    assert lines[2].startswith(f"| `mlp` | {numbers}")
    assert lines[3].startswith("| `mlp`, plain loop, model.ngf=8 |")


def test_the_end_of_a_training_that_diverged_is_as_bad_as_can_be():
    assert bars.end(row()) == 10.0
    assert bars.end(row(values=(1.0, None))) == bars.end(row(note="diverged: at once")) == float("inf")


def test_the_command_refuses_what_does_not_go_together(capsys):
    assert command_line.main(["quality", "--table", "--preset", "mlp"]) == 2
    assert command_line.main(["quality", "--compare-plain", "--data", "mnist"]) == 2
    assert command_line.main(["quality", "--preset", "ring8", "--seeds", "0"]) == 2
    assert "--seeds" in capsys.readouterr().err
