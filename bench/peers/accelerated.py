"""What a good engineer makes of the tutorial loop in an afternoon: the real competitor.

bf16 autocast, channels_last for convolutions, torch.compile of G and D, fused Adam, logits, one backward for D, no gradients of D in the G step where
autograd can leave them out (a compiled D computes them all the same), nothing read back from the device.
"""
import torch
import torch.nn.functional as F

from bench.peers import networks
from fastgan.config import Config


class AcceleratedLoop:
    """G, D and their optimisers. draw_z: as in the plain loop.

    dtype: of the compute, torch.bfloat16 (autocast) or torch.float32 (on CUDA with TF32). compile: G and D by torch.compile, at their first call.
    """

    def __init__(self, config: Config, device: torch.device, dtype: torch.dtype, compile: bool):
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
        model, optim = config.model, config.optim
        self.memory_format = torch.channels_last if model.architecture == "dcgan" else torch.contiguous_format
        G, D = networks.build(model)
        self.G = G.to(device, memory_format=self.memory_format)
        self.D = D[:-1].to(device, memory_format=self.memory_format)
        self.G_parameters = list(self.G.parameters())
        betas = (optim.beta1, optim.beta2)
        self.optimizer_G = torch.optim.Adam(self.G_parameters, lr=optim.lr_G, betas=betas, eps=optim.eps, fused=True)
        self.optimizer_D = torch.optim.Adam(self.D.parameters(), lr=optim.lr_D, betas=betas, eps=optim.eps, fused=True)
        self.run_G, self.run_D = (torch.compile(self.G), torch.compile(self.D)) if compile else (self.G, self.D)
        self.autocast = lambda: torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
        self.fresh_fakes = config.loss.fresh_fakes
        self.draw_z = lambda: networks.draw_z(model, config.run.batch_size, device)

    def step(self, real_img: torch.Tensor) -> None:
        """One update of D and of G on float real_img [N, ...]."""
        real_img = real_img.to(memory_format=self.memory_format)
        with self.autocast():
            fake_img = self.run_G(self.draw_z())
            d_loss = _cross_entropy(self.run_D(real_img), 1.0) + _cross_entropy(self.run_D(fake_img.detach()), 0.0)
        self.optimizer_D.zero_grad(set_to_none=True)
        d_loss.backward()
        self.optimizer_D.step()

        with self.autocast():
            if self.fresh_fakes:
                fake_img = self.run_G(self.draw_z())
            g_loss = _cross_entropy(self.run_D(fake_img), 1.0)
        self.optimizer_G.zero_grad(set_to_none=True)
        g_loss.backward(inputs=self.G_parameters)
        self.optimizer_G.step()


def start_compiler(device: torch.device) -> None:
    """Compile next to nothing, so that what the compiler loads once in a process is charged to nobody's compile time."""
    weight = torch.ones(4, device=device, requires_grad=True)
    torch.compile(torch.exp)(weight).sum().backward()


def _cross_entropy(logits: torch.Tensor, target: float) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
