"""What is run on a GPU machine, in which order, and how long it may take. The most important first, for a run may be cut off at any moment."""
import shlex
import sys
from dataclasses import dataclass

MINUTES = 8.5  # of a whole run: a machine may be lent for ten minutes a command, and the library is built before
ROWS = "FILE"  # stands in a command for the file that its rows are appended to
# Files in the output folder. With the three that run.py writes (the log, the last table, kernels.md beside its rows) they are eight.
RESULTS, STEP, OPS, LOADER, KERNELS = "results.jsonl", "step.jsonl", "ops.jsonl", "loader.jsonl", "kernels.jsonl"


@dataclass(frozen=True)
class Stage:
    """One subprocess. A stage is skipped where less than expected_s seconds are left, and ended where it has taken budget_s."""

    name: str
    arguments: tuple[str, ...]  # of python; ROWS among them becomes a path
    expected_s: int
    budget_s: int
    rows: str  # the file in the output folder
    shows: str  # and why it is expected to take so long
    needs: tuple[str, ...] = ()  # modules beside those that fastgan itself imports

    def command(self, rows: str) -> list[str]:
        """What to run, its rows going to this path."""
        return [sys.executable, *(rows if argument == ROWS else argument for argument in self.arguments)]

    def words(self) -> str:
        """The command as a person would type it."""
        return shlex.join(["python", *self.arguments])


def _tuned(name: str, arguments: str, expected_s: int, shows: str) -> Stage:
    command = f"-m bench step {arguments} --only accelerated captured --autotune --save {ROWS}"
    return Stage(name, tuple(command.split()), expected_s, 360, STEP, shows)


def _step(name: str, arguments: str, only: str, expected_s: int, budget_s: int, shows: str) -> Stage:
    command = f"-m bench step {arguments} --only {only} --save {ROWS}"
    return Stage(name, tuple(command.split()), expected_s, budget_s, STEP, shows)


def _tests(name: str, paths: str, expected_s: int, budget_s: int, shows: str) -> Stage:
    command = f"-m pytest -m gpu -q -p no:cacheprovider -p bench.gpu.outcomes --outcomes {ROWS} {paths}"
    return Stage(name, tuple(command.split()), expected_s, budget_s, RESULTS, shows, ("pytest", "hypothesis"))


def _command(name: str, arguments: str, expected_s: int, budget_s: int, rows: str, shows: str) -> Stage:
    return Stage(name, tuple(arguments.split()), expected_s, budget_s, rows, shows)


# The seconds are estimates; nothing has run on a GPU yet. What they are made of: 8 s to import torch and reach the GPU, 50 s to compile the two
# networks of the accelerated loop in both of its forms, 35 s for fastgan's step (its operators timed, compiled, checked beside eager, captured), and
# nine rounds of 0.3 s of every implementation and of a matrix product. The mlp compiles in a third of the time. Letting the compiler time its
# kernels takes minutes a rung, so almost everything goes without; what it gains has stages of its own. Every step stage compiles from an empty
# cache, as `bench step` always does: nothing would be saved by sharing one, for every batch size, preset and precision has kernels of its own.
MAIN = "plain accelerated captured"  # captured with as many steps a launch as were measured to be best; captured-1 with one
OPS_TESTS = (
    "tests/ops/test_deconv.py",
    "tests/ops/test_deconv_cuda.py",
    "tests/ops/test_adam_ema.py",
    "tests/kernels/test_kernels_leaky_relu_bce.py",
)
STAGES = (
    _command("checks", f"-m bench.gpu.checks --rows {ROWS}", 25, 90, RESULTS,
             "every operator against float64; first, for the verdicts decide what the others run. A process each, side by side"),
    _step("dcgan-128", "--preset dcgan --batch-size 128 --dtype bf16", MAIN, 110, 240, "the main bar"),
    _step("mlp-128", "--preset mlp --batch-size 128 --dtype bf16", MAIN, 60, 150, "the main bar where launches are all there is"),
    _step("dcgan-1024", "--preset dcgan --batch-size 1024 --dtype bf16", MAIN, 110, 240, "the main bar where the chip is full"),
    _command("chip", f"-m bench.gpu.chip --rows {ROWS}", 20, 60, RESULTS,
             "versions, clocks, what the library was built for; copy bandwidth and matrix rates, the ceilings"),
    _tests("tests-ops", " ".join(OPS_TESTS), 40, 100, "the operators under test. 120 small cases, with kernels to load or to compile"),
    _command("kernels", f"-m bench.gpu.kernels --preset dcgan --batch-size 128 --rungs eager compiled captured-1 --rows {ROWS}",
             85, 180, KERNELS, "where a step spends its time: kernel names, and TFLOP/s of every convolution. Compiles two rungs"),
    _command("job", f"-m bench.gpu.job --rows {ROWS}", 60, 150, RESULTS,
             "`fastgan train` from cold caches to the last grid. 45 s until it trains, 100 kimg in seconds"),
    _step("dcgan-128-rungs", "--preset dcgan --batch-size 128 --dtype bf16", "plain eager compiled captured-1", 100, 220,
          "what each rung adds, captured with one step a launch. Compiles two rungs"),
    _command("loader-dcgan", f"-m bench loader --only step --preset dcgan --compile --save {ROWS}", 120, 200, LOADER,
             "what a step waits for its data: resident, streamed, by DALI where it is installed, by torch's workers. 20 s each beside compiling"),
    _command("loader-feeds", f"-m bench loader --only read feed --compile --save {ROWS}", 60, 120, LOADER, "sources and feeds alone"),
    _command("ops-128", f"-m bench ops --batch-size 128 --dtype bf16 --rounds 5 --save {ROWS}", 60, 120, OPS,
             "every implementation of every operator. 18 calls of 7 things, 7 rounds of 0.05 s"),
    _tests("tests-rest", " ".join(["tests", *(f"--ignore={path}" for path in OPS_TESTS)]), 100, 150,
           "the other tests that need a GPU. 170 and more, most with kernels for Triton to compile"),
    _tuned("dcgan-128-tuned", "--preset dcgan --batch-size 128 --dtype bf16", 200, "what timing kernels gains, and costs"),
    _command("job-tuned", f"-m bench.gpu.job --set run.autotune=true --rows {ROWS}", 200, 360, RESULTS,
             "the same with `--autotune`: what a short run pays for it"),
    _step("r3gan-64", "--preset r3gan --resolution 64 --channels 3 --batch-size 64 --dtype bf16", "plain captured", 240, 360,
          "two penalties in every step, differentiated twice: what nobody else compiles"),
    _step("wgan-gp-32", "--preset wgan-gp --resolution 32 --channels 3 --batch-size 64 --dtype bf16", "plain captured", 180, 360,
          "the gradient penalty, five updates of D for one of G in one launch"),
    _step("stylegan2-64", "--preset stylegan2 --resolution 64 --channels 3 --batch-size 32 --dtype bf16", "plain captured", 240, 360,
          "R1 and path length now and then: three phases, sixteen steps a period"),
    _step("dcgan-32", "--preset dcgan --resolution 32 --channels 1 --batch-size 64 --dtype bf16", MAIN, 100, 180, "the embedded images"),
    _step("mlp-64", "--preset mlp --batch-size 64 --dtype bf16", MAIN, 60, 120, "the preset's own batch"),
    _command("ops-1024", f"-m bench ops --batch-size 1024 --dtype bf16 --rounds 5 --save {ROWS}", 60, 120, OPS, "the same where the chip is full"),
    _step("mlp-128-rungs", "--preset mlp --batch-size 128 --dtype bf16", "plain eager compiled captured-1 captured", 60, 150,
          "what each rung adds where launches are all there is, and what several steps a launch add. Compiles three rungs"),
    _command("loader-mlp", f"-m bench loader --only step --preset mlp --compile --save {ROWS}", 100, 180, LOADER,
             "what the shortest step waits for its data"),
    _tuned("mlp-128-tuned", "--preset mlp --batch-size 128 --dtype bf16", 120, "what timing kernels gains, and costs"),
    _tuned("dcgan-1024-tuned", "--preset dcgan --batch-size 1024 --dtype bf16", 220, "what timing kernels gains, and costs"),
    _step("dcgan-128-tf32", "--preset dcgan --batch-size 128 --dtype fp32", MAIN, 110, 200, "without bf16"),
    _step("mlp-128-tf32", "--preset mlp --batch-size 128 --dtype fp32", MAIN, 60, 120, "without bf16"),
    _step("dcgan-1024-tf32", "--preset dcgan --batch-size 1024 --dtype fp32", MAIN, 110, 200, "without bf16"),
)  # fmt: skip
NAMES = tuple(stage.name for stage in STAGES)


def chosen(names: list[str] | None) -> tuple[Stage, ...]:
    """The stages of these names in the order of the plan; None = all of them."""
    return tuple(stage for stage in STAGES if names is None or stage.name in names)


def describe(stages: tuple[Stage, ...], minutes: float) -> str:
    """The plan for a person: when each stage is expected to end, what it may take, and where the minutes end."""
    lines, ends_at = [f"{'stage':<16} {'takes':>5} {'budget':>6} {'ends at':>7}  command, what it shows"], 0
    for stage in stages:
        ends_at += stage.expected_s
        late = "" if ends_at <= 60 * minutes else f"   (not within {minutes:g} minutes)"
        lines.append(f"{stage.name:<16} {stage.expected_s:>4}s {stage.budget_s:>5}s {ends_at // 60:>4}:{ends_at % 60:02}  {stage.words()}")
        lines.append(f"{'':<38} {stage.shows}{late}")
    return "\n".join(lines)
