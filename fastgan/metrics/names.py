"""The names of metrics: those that a user asks for, and those of their numbers."""
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastgan.errors import UserError

# Of each kind: the number of generated images where the name has none, at most the number of real
# ones (modes: without this limit).
_DEFAULT_NUM = {"fid": 50_000, "kid": 5_000, "pr": 5_000, "dc": 5_000, "accuracy": 5_000, "modes": 26_000}
_OUTSIDE_FEATURES = ("accuracy", "modes")  # decided by classifiers of their own
# FID and KID are distances in Inception's features; in others they are just distances
_OTHER_NETWORKS = {"fid": "fd", "kid": "kd"}
_ASKED = re.compile(r"(fid|kid|pr|dc|accuracy|modes)(?:(\d+)(k?)(_full)?)?")


@dataclass(frozen=True)
class Metric:
    """A metric that was asked for.

    kind: fid | kid | pr | dc | accuracy | modes. num: generated images. full: compared with all
    real images, else with as many as are generated.
    """

    kind: str
    num: int
    full: bool = False

    @property
    def needs_features(self) -> bool:
        return self.kind not in _OUTSIDE_FEATURES

    def label(self, network: str, prefix: str | None = None) -> str:
        """Return the name of the number.

        It is `fid5k`, `precision5k`, and with a network other than Inception `fd_NETWORK_5k`,
        `precision_NETWORK_5k`. prefix: instead of the kind, where a kind gives several numbers.
        Only Inception's distances are comparable with those of papers, so only they have the
        papers' names.
        """
        count = short_count(self.num) + ("_full" if self.full else "")
        prefix = prefix or self.kind
        if network == "inception" or not self.needs_features:
            return prefix + count
        return f"{_OTHER_NETWORKS.get(prefix, prefix)}_{network}_{count}"


def parse(asked: str | Iterable[str], num_real: int) -> tuple[Metric, ...]:
    """Return the metrics of `fid5k,kid5k,pr5k,dc5k`.

    Each is a kind, a number of generated images (5000 or 5k), and `_full`, which only fid accepts.
    Without a number: fid is the paper's, 50 000 images, or as many as there are real ones where
    those are fewer, compared with all `num_real` real images. Raises UserError for other names and
    for less than two images.
    """
    names = [name.strip() for name in (asked.split(",") if isinstance(asked, str) else asked)]
    metrics = [_parse_one(name, num_real) for name in names if name]
    if not metrics:
        raise UserError(f"no metric was given: choose from {_examples()}")
    return tuple(dict.fromkeys(metrics))


def short_count(num: int) -> str:
    """Return 5k for 5000, 4803 for 4803."""
    return f"{num // 1000}k" if num % 1000 == 0 else str(num)


def is_of_one_class(label: str) -> bool:
    """Return True for the name of a number about the images of a single class."""
    return re.search(r"_class\d+$", label) is not None


def lower_is_better(label: str) -> bool:
    """Return True where the smaller of two numbers of this name is the better one.

    These are distances and KL divergences.
    """
    return label.startswith(("fid", "fd_", "kid", "kd_")) or label.endswith("_kl")


def counts(metrics: Sequence[Metric], *kinds: str) -> list[int]:
    """Return the numbers of generated images that metrics of these kinds ask for.

    Each comes once, in rising order.
    """
    return sorted({metric.num for metric in metrics if metric.kind in kinds})


def _parse_one(name: str, num_real: int) -> Metric:
    match = _ASKED.fullmatch(name)
    if match is None or (match[4] and match[1] != "fid"):
        raise UserError(f"{name!r} is not a known metric: choose from {_examples()}")
    kind = match[1]
    if match[2] is None:
        num = _DEFAULT_NUM[kind] if kind == "modes" else min(_DEFAULT_NUM[kind], num_real)
        return Metric(kind, num, full=kind == "fid")
    num = int(match[2]) * (1000 if match[3] else 1)
    if num < 2:
        raise UserError(f"{name!r} asks for {num} images, and a metric needs at least 2")
    return Metric(kind, num, match[4] is not None)


def _examples() -> str:
    return "fid, fid5k, fid50k_full, kid5k, pr5k, dc5k, accuracy5k, modes26k"
