"""The augmentation of a run: its kind, its probability and its adaptation to D."""
import torch

from fastgan.augment import ada, diff_augment
from fastgan.augment.ada import EVERY, AdaController
from fastgan.config import AugmentConfig


class Augmentation:
    """DiffAugment, or ADA with probability `p`, float32 [].

    A call maps img [N, C, H, W] and uniform [N, num_uniforms], U(0,1), to img of the same shape.
    """

    def __init__(self, config: AugmentConfig, device: torch.device, num_parts: int = 1):
        self._is_ada = config.kind == "ada"
        everything = tuple(ada.GROUPS if self._is_ada else diff_augment.TRANSFORMS)
        self._policy = tuple(part.strip() for part in config.policy.split(",")) if config.policy else everything
        self._controller = (
            AdaController(device, config.target, config.ada_kimg, num_parts * EVERY) if self._is_ada else None
        )
        if self._controller:
            self._controller.p.fill_(config.p)
        self._adapts = self._is_ada and config.p_end is None and config.target > 0
        # Random numbers that an image takes
        self.num_uniforms = (ada if self._is_ada else diff_augment).num_uniforms(self._policy)

    @property
    def p(self) -> torch.Tensor | None:
        """The probability of every transform, float32 []; None where all are always applied."""
        return self._controller.p if self._controller else None

    def __call__(self, img: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        if self._is_ada:
            return ada.ada_augment(img, uniform, self._controller.p, self._policy)
        return diff_augment.diff_augment(img, uniform, self._policy)

    def observed(self, real_logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """Adapt p to D's logits for real images, [N, L], where the augmentation adapts.

        Returns p as a statistic, or nothing where there is no p.
        """
        if self._adapts:
            self._controller.update(real_logits)
        return {"augment_p": self._controller.p.clone()} if self._controller else {}

    def state(self) -> dict[str, torch.Tensor]:
        """Return every tensor that a step changes, by name."""
        return self._controller.state() if self._controller else {}


def make_augmentation(config: AugmentConfig, device: torch.device, num_parts: int) -> Augmentation | None:
    """Make the configured augmentation, or return None.

    num_parts: number of parts that a batch is computed in, each of which is observed by itself.
    """
    return None if config.kind == "none" else Augmentation(config, device, num_parts)
