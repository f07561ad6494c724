"""The kind of device that an operator computes on."""
import torch

described: str | None = None  # set where code is generated for a device that is not there


def device_type(x: torch.Tensor) -> str:
    """`cpu` or `cuda`: what the forms of an operator are chosen by."""
    return described or x.device.type
