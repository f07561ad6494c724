"""Penalties on D or G, to be minimised beside the losses, and weight clipping.

Gradient penalties are computed by torch.autograd.grad(create_graph=True) inside the same graph that
is then differentiated with respect to the parameters. They are taken at `img + grad_probe`. A
gradient probe is a tensor of zeros that requires grad and lives outside of the step, so that no
tensor has to change its requires_grad inside a compiled graph, which torch 2.11 refuses. It costs
one addition, which the compiler fuses.
"""
import torch


def input_gradient(logits: torch.Tensor, grad_probe: torch.Tensor) -> torch.Tensor:
    """Return d sum(logits) / d grad_probe, float32 like grad_probe, with its graph.

    It holds the gradient of every image's own logits.
    """
    (gradient,) = torch.autograd.grad(logits.float().sum(), grad_probe, create_graph=True)
    return gradient.float()


def squared_norms(gradient: torch.Tensor) -> torch.Tensor:
    """Return |gradient|^2 of every image, [N].

    R1 and R2 are gamma / 2 times this at real and at fake images (Mescheder et al., 2018,
    arXiv 1801.04406, eq. 9).
    """
    return gradient.square().flatten(1).sum(1)


def gradient_penalty(gradient: torch.Tensor) -> torch.Tensor:
    """Return (|gradient| - 1)^2 of every image, [N].

    The two-sided penalty of WGAN-GP (Gulrajani et al., 2017, arXiv 1704.00028, equation 3).
    """
    # The root has no derivative at 0: a D of constant output would give NaN
    return ((squared_norms(gradient) + 1e-12).sqrt() - 1).square()


def interpolate(real_img: torch.Tensor, fake_img: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Return points on the lines between the images of each pair.

    uniform: U(0,1), [N, 1, ...] of as many dimensions as the images.
    """
    return torch.lerp(real_img, fake_img.to(real_img.dtype), uniform)


def path_lengths(gradient: torch.Tensor) -> torch.Tensor:
    """Return |d (img * noise) / d ws| of every image, [N], from that gradient [N, num_ws, w_dim].

    The length is the root of the mean over layers of the squared lengths. Karras et al., 2020
    (arXiv 1912.04958), equation 4; noise is N(0, 1) / sqrt(H * W).
    """
    return (gradient.float().square().sum(2).mean(1) + 1e-12).sqrt()


def orthogonality(parameters: list[torch.Tensor]) -> torch.Tensor:
    """Return the sum over weights of |W W^T without its diagonal|^2, [].

    Rows of W: output channels. Brock et al., 2019 (arXiv 1809.11096), equation 3.
    """
    total = parameters[0].new_zeros(())
    for parameter in parameters:
        if parameter.dim() >= 2:
            weight = parameter.flatten(1)
            products = weight @ weight.T
            total = total + (products - torch.diag(torch.diagonal(products))).square().sum()
    return total


@torch.no_grad()
def clip(parameters: list[torch.Tensor], limit: float) -> None:
    """Clip every weight to [-limit, limit], in place.

    WGAN (Arjovsky et al., 2017, arXiv 1701.07875, algorithm 1).
    """
    torch._foreach_clamp_min_(parameters, -limit)
    torch._foreach_clamp_max_(parameters, limit)
