"""The parts of what G and D return: the image of G, the logits and class logits of D.

A network may return one tensor, a tuple or list of tensors, or a dict.
"""
from collections.abc import Callable, Iterator, Mapping

import torch

LOGIT_NAMES = ("logits", "logit", "validity", "adv", "out", "output", "score", "pred")
IMAGE_NAMES = ("img", "image", "images", "fake", "out", "output", "x", "sample", "samples")
Output = object  # a tensor, a tuple, list or dict of tensors, nested


def logits_of(output: Output) -> torch.Tensor:
    """Return the logits in D's output.

    Of a dict, the first name of LOGIT_NAMES; otherwise the first tensor with one number, or a map
    of one channel, an image; else the first tensor. Raises TypeError if there is no tensor.
    """
    return _chosen(output, LOGIT_NAMES, _is_one_number)


def image_of(output: Output) -> torch.Tensor:
    """Return the images in G's output: by a name of IMAGE_NAMES, or the first tensor.

    Raises TypeError if there is no tensor.
    """
    return _chosen(output, IMAGE_NAMES, lambda tensor: True)


def class_logits_of(output: Output, c_dim: int) -> torch.Tensor | None:
    """Return the logits of an auxiliary classifier, [N, c_dim], in D's output, or None.

    They are the last tensor of this shape: logits come first.
    """
    tensors = list(_tensors(output))
    found = [tensor for tensor in tensors[1:] if tensor.dim() == 2 and tensor.shape[1] == c_dim]
    if not found and len(tensors) > 1 and tensors[0].dim() == 2 and tensors[0].shape[1] == c_dim:
        found = tensors[:1]
    return found[-1] if found else None


def floats(output: Output) -> Output:
    """Return the output with every floating-point tensor as float32, in the same structure."""
    if isinstance(output, torch.Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, Mapping):
        return {name: floats(each) for name, each in output.items()}
    if isinstance(output, tuple | list):
        parts = [floats(each) for each in output]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return output


def _chosen(output: Output, names: tuple[str, ...], is_fitting: Callable[[torch.Tensor], bool]) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        for name in names:
            if isinstance(output.get(name), torch.Tensor):
                return output[name]
    tensors = list(_tensors(output))
    if not tensors:
        raise TypeError(f"a {type(output).__name__} without tensors")
    return next(filter(is_fitting, tensors), tensors[0])


def _tensors(output: Output) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        for each in output.values():
            yield from _tensors(each)
    elif isinstance(output, tuple | list):
        for each in output:
            yield from _tensors(each)


def _is_one_number(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 1 or (tensor.dim() >= 2 and tensor.shape[1] == 1)
