"""The expected end of each stage, by running the plan in seconds instead of on a machine.

The rules are those of run.py.
"""

from collections import deque
from dataclasses import dataclass

from bench.gpu.stage import Limits, Stage

SHARED = 1.3  # times as long that work takes which others do beside it on the same cores


@dataclass
class _Running:
    stage: Stage
    work_s: float  # left until it measures
    timed_s: float  # left of that


def expected_ends(stages: tuple[Stage, ...], limits: Limits) -> dict[str, int]:
    """Return the seconds from the start of a run to the end of each stage, by name.

    They are in the order in which the stages end. No stage is skipped or refused.
    """
    queue, running, ends, now = deque(stages), [], {}, 0
    while queue or running:
        while queue and limits.fits(queue[0], (each.stage for each in running)):
            stage = queue.popleft()
            running.append(_Running(stage, stage.expected_s - stage.timed_s, stage.timed_s))
        _pass_a_second(running)
        now += 1
        for each in [each for each in running if each.work_s <= 0 and each.timed_s <= 0]:
            ends[each.stage.name] = now
            running.remove(each)
    return ends


def _pass_a_second(running: list[_Running]) -> None:
    """Let a second pass for the stages that may compute.

    The first that is ready to measure does, while the others stand still; else all of them work.
    """
    ready = [each for each in running if each.work_s <= 0]
    if ready:
        ready[0].timed_s -= 1
        return
    for each in running:
        each.work_s -= 1 if len(running) == 1 else 1 / SHARED
