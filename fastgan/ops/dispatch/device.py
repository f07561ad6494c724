"""The device type that an operator computes on."""
import torch

described: str | None = None  # set where code is generated for an absent device


def device_type(x: torch.Tensor) -> str:
    """Return `cpu` or `cuda`, by which the forms of an operator are selected."""
    return described or x.device.type
