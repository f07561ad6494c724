"""THE LOOP: steps, ticks, and what is said and written at a tick.

Trainer runs the steps of a configuration in it, StepTrainer a user's own step.
"""
import contextlib
import math
from collections import deque
from collections.abc import Iterator

import torch

from fastgan.config import Config
from fastgan.data import Feed
from fastgan.device.determinism import refusals_said
from fastgan.device.memory import cuda_oom_as_user_error, memory_gb, memory_in_words
from fastgan.device.throttle import Throttle
from fastgan.engine.engine import Engine
from fastgan.engine.parity import PARITY_STEPS
from fastgan.errors import DivergedError, UserError, first_line
from fastgan.gan.statistics import Readout
from fastgan.nn.pair.inspect_pair import NETWORK_ERRORS
from fastgan.ops.dispatch import autotune
from fastgan.progress import Progress
from fastgan.run.stopwatch import Stopwatch


class Loop:
    """The training loop over an engine and a feed.

    A subclass makes: config, its section `run` (batch size, length, ticks); state (tensors(),
    totals, counters); feed; engine; generator, of the random numbers of steps; recorder of a run
    folder, or None; notes for the user; epoch_nimg, images of an epoch, None where there are none;
    show_progress.
    """

    config: Config
    feed: Feed
    engine: Engine
    generator: torch.Generator
    epoch_nimg: int | None
    show_progress: bool
    notes: list[str]

    def _start_loop(self) -> None:
        """Make what the loop itself needs, once state and device are there."""
        self.nimg, self.stop_requested, self.last_finite = 0, False, {}
        self.recorder = None
        self.readout, self.throttle = Readout(self.state.totals.tensor), Throttle(self.device)

    def fit(self, *, kimg: float | None = None, epochs: float | None = None, steps: int | None = None) -> dict:
        """Train until `kimg` thousand images (or epochs, or steps) have been shown since the very
        start. Returns the statistics of the last tick.
        """
        last_tick = deque(self.ticks(kimg=kimg, epochs=epochs, steps=steps), maxlen=1)
        return last_tick[0] if last_tick else {}

    def ticks(
        self, *, kimg: float | None = None, epochs: float | None = None, steps: int | None = None
    ) -> Iterator[dict]:
        """Train, and yield the statistics of every tick; leaving the loop early leaves a run that
        `fit` or `ticks` can go on with.
        """
        run = self.config.run
        total_nimg = self._total_nimg(kimg, epochs, steps)
        tick_nimg = max(run.batch_size, round(1000 * run.tick_kimg) if run.tick_kimg else math.ceil(total_nimg / 100))

        with (
            Progress(total_nimg, self.nimg, enabled=self.show_progress) as progress,
            cuda_oom_as_user_error(),
            refusals_said(),
        ):
            # Say what will be done, and write down where it starts.
            self._announce(progress)
            if self.recorder and self.nimg == 0:
                self.recorder.start()

            # Climb the ladder: compile the whole step and check it beside the eager one.
            self._prepare_step(progress, tick_nimg // run.batch_size)
            stopwatch, whole = Stopwatch(self.nimg), Stopwatch(self.nimg)

            while self.nimg < total_nimg and not self.stop_requested:
                # One launch: real images, fresh noise and the whole update, for as many steps as
                # the rung takes at once.
                tick_end = min((self.nimg // tick_nimg + 1) * tick_nimg, total_nimg)
                with stopwatch.stepping():
                    self._launch(math.ceil((tick_end - self.nimg) / run.batch_size))
                progress.advance(self.nimg)
                if self.nimg < tick_end and not self.stop_requested:
                    continue

                # A tick: read the statistics (this waits for the device), say them, write them.
                statistics = self._read_statistics(stopwatch)
                progress.update(self.nimg, statistics, memory_in_words())
                for text in self._signs_of_trouble(statistics):
                    self._say(progress, f"at {self.nimg / 1000:g} kimg {text}")
                if self.recorder:
                    last = self.nimg >= total_nimg or self.stop_requested
                    self.recorder.tick(statistics, self.nimg // tick_nimg, last, self.generator)
                if self._measures_now(self.nimg // tick_nimg, last=self.nimg >= total_nimg):
                    with stopwatch.paused(), whole.stepping(), progress.busy(f"measuring {self.config.run.metrics}"):
                        statistics |= self._measure(progress)
                self.engine.check_no_recompilation()
                with stopwatch.paused(), whole.paused():
                    yield statistics

            # The end, or a stop in between: the pictures of the whole run.
            if whole.step_s:
                self._say(
                    progress, f"measuring took {whole.step_s:.1f} s, {whole.step_s / whole.seconds():.0%} of the time"
                )
            if self.recorder:
                self.recorder.end(self.nimg, self.generator)
            self.stop_requested = False  # a later call goes on

    def request_stop(self) -> None:
        """Finish the step that is running, write snapshot and state, and leave the loop.

        For signal handlers.
        """
        self.stop_requested = True

    def _total_nimg(self, kimg: float | None, epochs: float | None, steps: int | None) -> int:
        """The length asked for, else the configuration's, in images: a whole number of batches."""
        asked = (kimg, epochs, steps)
        if all(length is None for length in asked):
            asked = (self.config.run.kimg, self.config.run.epochs, self.config.run.steps)
        if sum(length is not None for length in asked) != 1:
            raise UserError("give exactly one of kimg, epochs and steps")
        kimg, epochs, steps = asked
        length = next(length for length in asked if length is not None)
        if not isinstance(length, int | float) or not 0 < length < math.inf:
            raise UserError(f"a run cannot be {length!r} long: kimg, epochs or steps is a number above 0")
        if epochs is not None and self.epoch_nimg is None:
            raise UserError("an epoch needs a set of known length: give kimg or steps for a density or a stream")
        batch_size = self.config.run.batch_size
        nimg = (
            1000 * kimg
            if kimg is not None
            else epochs * self.epoch_nimg
            if epochs is not None
            else steps * batch_size
        )
        return math.ceil(nimg / batch_size) * batch_size

    # --- what a subclass adds to a tick ------------------------------------------------------------------------------

    def _look(self) -> dict[str, float]:
        """Further statistics of a tick."""
        return {}

    def _signs_of_trouble(self, statistics: dict) -> list[str]:
        """Sentences on statistics that mean trouble."""
        return []

    def _measures_now(self, index: int, last: bool) -> bool:
        """True at a tick with metrics."""
        return False

    def _measure(self, progress: Progress) -> dict[str, float]:
        """The metrics, which are said and written down."""
        return {}

    def _shapes(self) -> str | None:
        """The inputs of the user's code in words, for errors of its first step; None: it is ours."""
        return None

    # --- steps --------------------------------------------------------------------------------------------------------

    def _launch(self, most: int) -> None:
        """As many steps as the rung takes at once, and at most so many; nothing here waits until
        the device has nothing left to do.
        """
        first = self.nimg // self.config.run.batch_size
        num_steps = self.engine.steps_at_once(first, most)
        self.feed.reserve(num_steps)
        self.engine.run(first, num_steps)
        self.feed.launched(num_steps)
        self.throttle.launched()
        self.nimg += num_steps * self.config.run.batch_size

    def _prepare_step(self, progress: Progress, steps_per_tick: int) -> None:
        """Climb the ladder, once; afterwards the first trained step is still the first.

        A launch of several steps has to fit into a tick.
        """
        if self.engine.prepared:
            return
        if self.engine.ladder.graph_steps is None:
            self.engine.limit_launches(steps_per_tick)
        self.engine.log.report = lambda text: self._say(progress, text)
        if self.recorder:
            self.engine.log.details = self.recorder.say
        self.feed.reserve(self.feed.max_steps or PARITY_STEPS)
        climbing = progress.busy(
            "compiling the training step and checking it against eager",
            "compiled and checked the step in {seconds:.1f} s",
        )
        with climbing if self.config.run.compile else contextlib.nullcontext(), self._framed(), refusals_said():
            rung = self.engine.prepare()
        if self.recorder:
            at_once = f", {rung.steps_per_launch} steps a launch" if rung.name == "captured" else ""
            self.recorder.say(
                f"training on {self.device.type} with the {rung.name} step{at_once}, ready in {rung.build_s:.1f} s"
            )
            self.recorder.say(f"fused operators of the step: {autotune.used()}")

    @contextlib.contextmanager
    def _framed(self) -> Iterator[None]:
        """Turn an error of the user's code in its first step into a UserError in one sentence."""
        try:
            yield
        except (UserError, torch.OutOfMemoryError):
            raise
        except NETWORK_ERRORS as error:
            if self._shapes() is None:
                raise
            raise UserError(
                f"the first training step failed in eager PyTorch, with {self._shapes()}: {first_line(error)}"
            ) from error

    # --- what a tick says and writes ----------------------------------------------------------------------------------

    def _announce(self, progress: Progress) -> None:
        for text in self.notes:
            self._say(progress, text)
        self.notes = []

    def _say(self, progress: Progress, text: str) -> None:
        progress.message(text)
        if self.recorder:
            self.recorder.say(text)

    def _read_statistics(self, stopwatch: Stopwatch) -> dict:
        """The means over a tick, its speed, and what signs of trouble go by; the next tick begins.

        Raises DivergedError if a mean is not finite.
        """
        num_images = self.nimg - stopwatch.start_nimg
        means = self.state.totals.means(self.readout.take())  # waits for the device
        self.state.counters.write()
        seconds, step_s = stopwatch.seconds(), stopwatch.step_s
        stopwatch.restart(self.nimg)  # looking and writing counts as time outside the step in the next tick
        statistics = {
            "nimg": self.nimg,
            "kimg": self.nimg / 1000,
            **means,
            "imgs_per_sec": num_images / seconds,
            "sec_per_kimg": 1000 * seconds / num_images,
            **self._look(),
            "outside_step": 1 - step_s / seconds,
            "memory_gb": memory_gb(),
            "rung": self.engine.rung.name,
        }
        bad = [name for name, mean in means.items() if not math.isfinite(mean)]
        if bad:
            raise self._diverged(
                f"{' and '.join(bad)} became NaN or infinite before {self.nimg / 1000:g} kimg", statistics
            )
        self.last_finite = statistics
        return statistics

    def _diverged(self, what: str, statistics: dict) -> DivergedError:
        """The end of the run: what was last finite, and where the last good snapshot is."""
        values = ", ".join(
            f"{name} {self.last_finite[name]:.4g}"
            for name in ("kimg", *self.state.totals.names)
            if name in self.last_finite
        )
        what = f"{what}; last finite: {values or 'nothing, it was the first tick'}"
        return self.recorder.diverged(what, statistics) if self.recorder else DivergedError(what)
