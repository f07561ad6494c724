"""Statistics of the steps, added up on the device until the tick that reads them."""
import torch

# What phases may record. The first four are there in every run.
STATISTICS = (
    "d_loss", "g_loss", "real_logits", "fake_logits", "gradient_penalty", "r1_penalty", "r2_penalty", "path_length", "class_loss", "class_loss_fake",
    "reconstruction_loss", "augment_p",
)  # fmt: skip
ALWAYS = STATISTICS[:4]


class Totals:
    """Sums of named values and how often each was recorded: a phase that is due now and then has its own mean.

    tensor: float32 [2 * len(names)], sums first; its memory stays where it is.
    """

    def __init__(self, names: tuple[str, ...], device: torch.device):
        assert set(names) <= set(STATISTICS), "a statistic has a name that is known"
        self.names = names
        self.tensor = torch.zeros(2 * len(names), device=device)
        self._zero, self._one = torch.zeros((), device=device), torch.ones((), device=device)

    def add(self, values: dict[str, torch.Tensor]) -> None:
        """Record one value, [], of each of these names."""
        sums = [values[name].detach().float() if name in values else self._zero for name in self.names]
        counts = [self._one if name in values else self._zero for name in self.names]
        self.tensor.add_(torch.stack(sums + counts))

    def means(self, read: list[float]) -> dict[str, float]:
        """Name -> mean, of what was recorded at all. read: what the tensor held."""
        sums, counts = read[:len(self.names)], read[len(self.names):]
        return {name: total / count for name, total, count in zip(self.names, sums, counts, strict=True) if count}
