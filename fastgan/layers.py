"""Building blocks that more than one model uses."""
from torch import nn


def activation(name: str) -> nn.Module:
    """relu | leaky_relu (slope 0.2, Radford et al., 2015) | elu, as a module."""
    return {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.2), "elu": nn.ELU}[name]()


def linear_stack(widths: tuple[int, ...], hidden_activation: str, init: str) -> nn.Sequential:
    """Linear maps through `widths`, an activation between any two: [N, widths[0]] -> [N, widths[-1]]."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [linear(fan_in, fan_out, init), activation(hidden_activation)]
    return nn.Sequential(*layers[:-1])


def linear(fan_in: int, fan_out: int, init: str) -> nn.Linear:
    """A linear layer; `xavier_relu` draws weights of standard deviation 1 / sqrt(fan_in / 2) and zero biases."""
    layer = nn.Linear(fan_in, fan_out)
    if init == "xavier_relu":
        nn.init.normal_(layer.weight, std=(fan_in / 2) ** -0.5)
        nn.init.zeros_(layer.bias)
    return layer


def dcgan_init(network: nn.Module) -> None:
    """Convolutions from N(0, 0.02), BatchNorm weights from N(1, 0.02), biases zero (Radford et al., 2015, section 4)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
