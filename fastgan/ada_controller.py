"""How strong adaptive augmentation is (Karras et al., 2020, arXiv 2006.06676, section 3): stronger where D begins to learn the real ones by heart."""
import torch

EVERY = 4  # updates between two moves of p


class AdaController:
    """p, the probability of a transform, follows D's overfitting: the mean sign of its logits for real images, which `target` is to be.

    Everything lives on the device, no host waits for it, and all of it changes in place: p, sign_sum and num, float32 [].
    p starts at 0 and stays in [0, 1]; it takes ada_kimg thousands of images from one to the other. It moves every `every` updates.
    """

    def __init__(self, device: torch.device | str, target: float = 0.6, ada_kimg: float = 500.0, every: int = EVERY):
        self.p = torch.zeros((), device=device)
        self.sign_sum = torch.zeros((), device=device)  # over the images since p moved; an image of several logits counts their mean sign
        self.num = torch.zeros((), device=device)  # of these images
        self.target, self.speed, self.every = target, 1 / (1000 * ada_kimg), every

    @torch.no_grad()
    def update(self, real_logits: torch.Tensor) -> None:
        """Take in D's logits for real images, float [N] or [N, ...], and move p where that is due. N is the same in every update."""
        self.sign_sum.add_(real_logits.float().sign().mean() * len(real_logits))
        self.num.add_(len(real_logits))
        due = self.num >= self.every * len(real_logits)
        moved = self.p + (self.sign_sum / self.num - self.target).sign() * self.num * self.speed
        self.p.copy_(torch.where(due, moved.clamp(0, 1), self.p))
        for count in (self.sign_sum, self.num):
            count.copy_(torch.where(due, 0, count))

    def state(self) -> dict[str, torch.Tensor]:
        """Every tensor that an update changes, by name, for checkpoints and for restoring in place."""
        return {"p": self.p, "sign_sum": self.sign_sum, "num": self.num}
