"""The stages of a GPU machine, their order, and the time that each may take.

The most important first, for a run may be cut off at any moment.
"""

from fastgan.bench.gpu.stage import ROWS, WORKERS, Limits, Stage, expected_ends
from fastgan.bench.gpu.stage import of_command as _command

# Of a whole run: a machine may be lent for ten minutes a command, and ending, table and archive
# take some seconds
MINUTES = 9.0
SLOTS = 5  # stages at once on 16 cores: compiling one keeps about three busy; fewer cores have fewer places (call.py)
# The share of the GPU's memory that stages may take together; the memory where it is unknown.
MEMORY_SHARE, UNKNOWN_MEMORY_GB = 0.85, 80.0
PLANNED = Limits(SLOTS, 118.0)  # of the computed plan
# Files in the output folder; eight with the three of the run itself: the log, table and archive.
RESULTS, STEP, OPS, LOADER, KERNELS = "results.jsonl", "step.jsonl", "ops.jsonl", "loader.jsonl", "kernels.jsonl"
# Of a command: nine rounds of 0.3 s of four or five things, feeds by their plan, 18 calls.
TIMED_S = {"step": 16, "loader": 40, "ops": 45}


def _tuned(name: str, arguments: str, expected_s: int, shows: str) -> Stage:
    """Return a stage that runs alone: the compiler times kernels all the while."""
    command = f"-m fastgan bench step {arguments} --only accelerated captured --autotune --save {ROWS}"
    return _command(name, command, expected_s, 360, STEP, shows, is_alone=True)


def _step(
    name: str, arguments: str, only: str, expected_s: int, budget_s: int, shows: str, memory_gb: int = 12
) -> Stage:
    command = f"-m fastgan bench step {arguments} --only {only} --save {ROWS}"
    return _command(name, command, expected_s, budget_s, STEP, shows, timed_s=TIMED_S["step"], memory_gb=memory_gb)


def _tests(name: str, paths: str, expected_s: int, budget_s: int, shows: str) -> Stage:
    before = f"-m pytest -m gpu -q -W default -p no:cacheprovider -p fastgan.bench.gpu.evidence --outcomes {ROWS}"
    command = (*before.split(), WORKERS, *paths.split())
    return Stage(name, command, expected_s, budget_s, RESULTS, shows, ("pytest", "hypothesis"), needs_checkout=True,
                 slots=3, memory_gb=30)  # fmt: skip


def _sweep(implementation: str) -> Stage:
    shows = f"cudnn.benchmark x combo_kernels with deconv={implementation}. Two steps compiled, four captured"
    command = f"-m fastgan.bench.gpu.sweep --preset dcgan --batch-size 128 --deconv {implementation} --rows {ROWS}"
    return _command(f"sweep-{implementation}", command, 90, 200, RESULTS, shows, timed_s=14)


def _loader(name: str, arguments: str, expected_s: int, budget_s: int, shows: str) -> Stage:
    command = f"-m fastgan bench loader {arguments} --compile --save {ROWS}"
    return _command(name, command, expected_s, budget_s, LOADER, shows, timed_s=TIMED_S["loader"], slots=2)


def _ops(batch_size: int, shows: str) -> Stage:
    command = f"-m fastgan bench ops --batch-size {batch_size} --dtype bf16 --rounds 5 --save {ROWS}"
    return _command(f"ops-{batch_size}", command, 60, 120, OPS, shows, timed_s=TIMED_S["ops"])


# The seconds are estimates; nothing has run on a GPU yet. Their parts: 8 s to import
# torch and reach the GPU, 50 s to compile the two networks of the accelerated loop in both of its
# ways, 35 s for fastgan's step (compiled, checked beside eager, captured), and nine rounds of 0.3
# s of every implementation and of a matrix product. The mlp compiles in a third of the time.
# Letting the compiler time its kernels takes minutes a rung, so almost everything goes without;
# what it gains has stages of its own. A step compiles from an empty cache, unless a run is given a
# folder to keep caches in (--cache). What measures all the time, or by the wall clock, or cannot be
# stopped for others, is alone.
# Captured with as many steps a launch as were measured to be best; captured-1 with one
MAIN = "plain accelerated captured"
DECONV = ("auto", "reference", "subpixel", "cuda", "triton")
OPS_TESTS = (
    "tests/ops/deconv/test_operator.py",
    "tests/ops/deconv/test_cuda.py",
    "tests/ops/test_adam_ema.py",
    "tests/kernels/test_kernels_leaky_relu_bce.py",
)
STAGES = (
    _command("smoke", f"-m fastgan.bench.gpu.smoke --rows {ROWS}", 25, 40, RESULTS,
             "a graph that draws numbers, an mlp step captured and compiled, with whole tracebacks; without the fused "
             "operators", is_alone=True, environment=(("FASTGAN_OPS", "reference"),)),
    _command("library", f"-m fastgan.bench.gpu.chip library --rows {ROWS}", 15, 200, RESULTS,
             "the native library: what was brought along where it fits, else one that is built here, which takes a "
             "minute or two", is_alone=True),
    _command("checks", f"-m fastgan.bench.gpu.operators check --rows {ROWS}", 25, 90, RESULTS,
             "every operator against float64; early, for the verdicts decide what the others run. A process each, "
             "side by side", is_alone=True),
    _command("choices", f"-m fastgan.bench.gpu.operators choose --cases dcgan:128 mlp:128 dcgan:1024 --rows {ROWS}", 40,
             100, RESULTS,
             "times the operators on the calls of the steps that follow, which then look them up", is_alone=True),
    _step("dcgan-128", "--preset dcgan --batch-size 128 --dtype bf16", MAIN, 110, 240, "the main bar"),
    _step("mlp-128", "--preset mlp --batch-size 128 --dtype bf16", MAIN, 60, 150,
          "the main bar where launches are all there is"),
    _step("dcgan-1024", "--preset dcgan --batch-size 1024 --dtype bf16", MAIN, 110, 240,
          "the main bar where the chip is full", memory_gb=30),
    _command("kernels", f"-m fastgan.bench.gpu.kernels --preset dcgan --batch-size 128 --rungs eager compiled "
                        f"captured-1 --rows {ROWS}", 90, 200, KERNELS,
             "where a step spends its time: kernels, TFLOP/s of every convolution, generated code, traces. Compiles "
             "two rungs", timed_s=6),
    *map(_sweep, DECONV),
    _command("chip", f"-m fastgan.bench.gpu.chip ceilings --rows {ROWS}", 20, 60, RESULTS,
             "versions, clocks, what the library was built for; copy bandwidth and matrix rates, the ceilings",
             is_alone=True),
    _command("tiles", f"-m fastgan.bench.ops.deconv_tiles --rows {ROWS}", 60, 120, RESULTS,
             "which tiles of the CUDA kernels are the fastest on this chip", is_alone=True),
    _command("sanitizer", f"-m fastgan.bench.gpu.nvidia_tools sanitizer --rows {ROWS}", 80, 150, RESULTS,
             "memory errors and races of the native kernels on small cases", programs=("compute-sanitizer",)),
    _command("ncu", f"-m fastgan.bench.gpu.nvidia_tools counters --preset dcgan --batch-size 128 --rows {ROWS}", 75,
             150, RESULTS,
             "the ten longest kernels of the compiled step by the hardware counters. Compiles a rung twice",
             programs=("ncu",), is_alone=True),
    _command("job", f"-m fastgan.bench.gpu.job --rows {ROWS}", 60, 150, RESULTS,
             "`fastgan train` from cold caches to the last grid. 45 s until it trains, 100 kimg in seconds",
             is_alone=True),
    _step("dcgan-128-rungs", "--preset dcgan --batch-size 128 --dtype bf16", "plain eager compiled captured-1", 100,
          220, "what each rung adds, captured with one step a launch. Compiles two rungs"),
    _step("mlp-128-rungs", "--preset mlp --batch-size 128 --dtype bf16", "plain eager compiled captured-1 captured", 60,
          150,
          "what each rung adds where launches are all there is, and what several steps a launch add. Compiles three "
          "rungs"),
    _tests("tests-ops", " ".join(OPS_TESTS), 40, 150,
           "the operators under test. 120 small cases, with kernels to load or to compile"),
    _tests("tests-rest", " ".join(["tests", *(f"--ignore={path}" for path in OPS_TESTS)]), 100, 240,
           "the other tests that need a GPU. 170 and more, most with kernels for Triton to compile"),
    _ops(128, "every implementation of every operator. 18 calls of 7 things, 7 rounds of 0.05 s"),
    _step("r3gan-64", "--preset r3gan --resolution 64 --channels 3 --batch-size 64 --dtype bf16", "plain captured", 220,
          360, "two penalties in every step, differentiated twice: what nobody else compiles", memory_gb=30),
    _step("stylegan2-64", "--preset stylegan2 --resolution 64 --channels 3 --batch-size 32 --dtype bf16",
          "plain captured", 220, 360,
          "R1 and path length now and then: three phases, sixteen steps a period", memory_gb=20),
    _step("wgan-gp-32", "--preset wgan-gp --resolution 32 --channels 3 --batch-size 64 --dtype bf16", "plain captured",
          150, 360, "the gradient penalty, five updates of D for one of G in one launch"),
    _loader("loader-dcgan", "--only step --preset dcgan", 100, 200,
            "what a step waits for its data: resident, streamed, by DALI where it is installed, by torch's workers"),
    _loader("loader-feeds", "--only read feed", 60, 120, "sources and feeds alone"),
    _loader("loader-mlp", "--only step --preset mlp", 90, 180, "what the shortest step waits for its data"),
    _step("dcgan-32", "--preset dcgan --resolution 32 --channels 1 --batch-size 64 --dtype bf16", MAIN, 100, 180,
          "the embedded images"),
    _step("mlp-64", "--preset mlp --batch-size 64 --dtype bf16", MAIN, 60, 120, "the preset's own batch"),
    _ops(1024, "the same where the chip is full"),
    _step("dcgan-128-tf32", "--preset dcgan --batch-size 128 --dtype fp32", MAIN, 110, 200, "without bf16"),
    _step("mlp-128-tf32", "--preset mlp --batch-size 128 --dtype fp32", MAIN, 60, 120, "without bf16"),
    _step("dcgan-1024-tf32", "--preset dcgan --batch-size 1024 --dtype fp32", MAIN, 110, 200, "without bf16",
          memory_gb=40),
    _tuned("dcgan-128-tuned", "--preset dcgan --batch-size 128 --dtype bf16", 200,
           "what timing kernels gains, and costs"),
    _command("job-tuned", f"-m fastgan.bench.gpu.job --set run.autotune=true --rows {ROWS}", 200, 360, RESULTS,
             "the same with `--autotune`: what a short run pays for it", is_alone=True),
    _tuned("mlp-128-tuned", "--preset mlp --batch-size 128 --dtype bf16", 120, "what timing kernels gains, and costs"),
    _tuned("dcgan-1024-tuned", "--preset dcgan --batch-size 1024 --dtype bf16", 220,
           "what timing kernels gains, and costs"),
)  # fmt: skip
NAMES = tuple(stage.name for stage in STAGES)

# Three calls of a machine that is bare each time: every one begins with what the others need.
# Stages that let the compiler time its kernels are in none of them: they are for a machine that
# stays.
FIRST = ("smoke", "library", "checks")
CALLS = {
    "diagnose": (*FIRST, "choices", "mlp-128", "kernels", "dcgan-128", *(f"sweep-{name}" for name in DECONV),
                 "sanitizer", "chip", "ncu"),
    "bars": (*FIRST, "choices", "tests-rest", "dcgan-128", "mlp-128", "dcgan-1024", "dcgan-128-rungs", "mlp-128-rungs",
             "tests-ops", "job", "tiles"),
    "rest": (*FIRST, "r3gan-64", "stylegan2-64", "wgan-gp-32", "loader-feeds", "ops-128", "loader-dcgan", "dcgan-32"),
}  # fmt: skip


def chosen(names: list[str] | None, call: str | None = None) -> tuple[Stage, ...]:
    """Return the stages of these names in the order of the plan, or those of a call.

    Without either, all stages.
    """
    if call is not None:
        return tuple(by_name(name) for name in CALLS[call] if names is None or name in names)
    return tuple(stage for stage in STAGES if names is None or stage.name in names)


def by_name(name: str) -> Stage:
    """Return one stage."""
    return next(stage for stage in STAGES if stage.name == name)


def describe_plan(stages: tuple[Stage, ...], minutes: float, limits: Limits = PLANNED) -> str:
    """Describe the plan for a person.

    The text lists for each stage its expected end and its budget, and marks where the minutes end.
    """
    ends = expected_ends(stages, limits)
    lines = [
        f"{limits.slots} stages at once",
        f"{'stage':<16} {'takes':>5} {'budget':>6} {'ends at':>7}  command, what it shows",
    ]
    for stage in stages:
        end = ends[stage.name]
        late = "" if end <= 60 * minutes else f"   (not within {minutes:g} minutes)"
        alone = "alone: " if stage.is_alone else ""
        lines.append(
            f"{stage.name:<16} {stage.expected_s:>4}s {stage.budget_s:>5}s {end // 60:>4}:{end % 60:02}  "
            f"{stage.words()}"
        )
        lines.append(f"{'':<38} {alone}{stage.shows}{late}")
    return "\n".join(lines)
