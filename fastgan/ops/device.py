"""The kind of device that an operator computes on."""
import torch


def device_type(x: torch.Tensor) -> str:
    """"cpu" or "cuda": what forms are chosen by. A name of its own, so that code can be generated for a device that is only described."""
    return x.device.type
