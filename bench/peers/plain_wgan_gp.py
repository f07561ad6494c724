"""WGAN-GP (Gulrajani et al., 2017, arXiv 1704.00028, algorithm 1) as PyTorch repositories write it.

Eager, fp32, NCHW, three backwards for D.
"""
import torch

from fastgan.bench.peers.parts import Loop, requires_grad


class PlainWganGp(Loop):
    """The WGAN-GP loop: a step is one update of the critic; every n_critic-th adds one of G.

    The update of G follows that of the critic.
    """

    def step(self, real_img: torch.Tensor) -> tuple[float, ...]:
        """Make one update of D on float real_img [N, C, H, W], and G's where it is due.

        Returns (d_loss, penalty) and g_loss for the log.
        """
        # The critic; its gradients add up over three passes.
        requires_grad(self.D, True)
        self.optimizer_D.zero_grad()
        real = self.D(real_img).mean()
        (-real).backward()
        with torch.no_grad():
            fake_img = self.G(self.draw_z())
        fake = self.D(fake_img).mean()
        fake.backward()
        penalty = self.config.penalty.gp_weight * self._gradient_penalty(real_img, fake_img)
        penalty.backward()
        self.optimizer_D.step()
        logged = (fake - real).item(), penalty.item()

        self.num_steps += 1
        return (*logged, self._update_G()) if self.num_steps % self.config.loss.n_critic == 0 else logged

    def _update_G(self) -> float:
        requires_grad(self.D, False)
        self.optimizer_G.zero_grad()
        loss = -self.D(self.G(self.draw_z())).mean()
        loss.backward()
        self.optimizer_G.step()
        self.average(self.config.optim.ema_kimg)
        return loss.item()

    def _gradient_penalty(self, real_img: torch.Tensor, fake_img: torch.Tensor) -> torch.Tensor:
        """Return the mean of (|slope| - 1)^2 between real and fake images, []."""
        share = self.draw_uniform(len(real_img), 1, 1, 1)
        img = ((1 - share) * real_img + share * fake_img).requires_grad_(True)
        logits = self.D(img)
        (gradient,) = torch.autograd.grad(logits, img, torch.ones_like(logits), create_graph=True)
        return ((gradient.reshape(len(img), -1).norm(2, dim=1) - 1) ** 2).mean()
