"""The Triton kernels of the discriminator's end, in the interpreter and compiled for absent GPUs.

The interpreted kernels are compared with the reference.
"""
import pytest
import torch
from checking import assert_close_to_truth
from triton_tools import CAPABILITIES, compile_launches, run_interpreted

from fastgan.ops import leaky_relu_bce as op

pytest.importorskip("triton", reason="triton is not installed")

KINDS = {  # rows, features (None: elements), dtype, slope, with bias, with a vector of targets
    "mlp": (9, 37, "float32", 0.0, True, False),
    "dcgan": (3, 1100, "bfloat16", 0.2, False, True),
    "half": (5, 64, "float16", 0.2, True, True),
    "one": (1, 1, "float32", 1.0, True, False),
    "elements": (2500, None, "float32", 0.2, False, True),
    "split": (700, 70, "float32", 0.2, True, True),
}


def check_kernels(rows, features, dtype, slope, with_bias, with_targets):
    from fastgan.kernels import leaky_relu_bce as kernels

    generator = torch.Generator().manual_seed(0)

    def random(*size):
        return torch.randn(size, generator=generator)

    x = (random(rows) if features is None else random(rows, features)).to(getattr(torch, dtype))
    weight, bias = None if features is None else random(features) / features**0.5, random(1) if with_bias else None
    targets, target = (random(rows).sigmoid(), 0.0) if with_targets else (None, 0.9)
    either = target if targets is None else targets

    def exact(tensor):
        return tensor.double() if isinstance(tensor, torch.Tensor) else tensor

    ours = kernels.forward(x, weight, bias, targets, target, slope)
    reference = op.forward_reference(x, weight, bias, either, slope)
    truth = op.forward_reference(*(exact(each) for each in (x, weight, bias, either)), slope)
    for each in zip(ours, reference, truth, strict=True):
        assert_close_to_truth(*each, atol=2e-6)
    logits, mean, dlogits = reference[1], torch.ones(1).expand(rows) / rows, random(2 * rows)[::2]
    for dloss, dlogit in ((mean, None), (None, dlogits), (random(rows), dlogits)):
        for needs in ((True, features is not None), (True, False), (False, features is not None)):
            ours = kernels.gradients(x, weight, targets, target, slope, logits, dloss, dlogit, *needs)
            reference = op.backward_reference(x, weight, either, slope, logits, dloss, dlogit, *needs)
            exacts = (exact(each) for each in (x, weight, either, slope, logits, dloss, dlogit))
            truth = op.backward_reference(*exacts, *needs)
            for each in zip(ours, reference, truth, strict=True):
                largest = each[2].abs().max().item() if each[2].numel() else 0.0
                assert_close_to_truth(*each, atol=4 * torch.finfo(each[0].dtype).eps * (1 + largest))


def check_extreme_logits():
    from fastgan.kernels import leaky_relu_bce as kernels

    logits = torch.tensor([-1e4, -90.0, -30.0, -16.0, 0.0, 16.0, 30.0, 90.0, 1e4, float("nan")])
    for target in (0.0, 0.1, 1.0):
        loss, same = kernels.forward(logits, None, None, None, target, 1.0)
        dx, _ = kernels.gradients(logits, None, None, target, 1.0, logits, torch.ones(1).expand(10), None, True, False)
        exact = logits.double()
        exact_loss = -(
            target * torch.nn.functional.logsigmoid(exact) + (1 - target) * torch.nn.functional.logsigmoid(-exact)
        )
        exact_gradient = (1 - target) * exact.sigmoid() - target * (-exact).sigmoid()
        torch.testing.assert_close(same, logits, equal_nan=True)
        torch.testing.assert_close(loss, exact_loss.float(), rtol=5e-6, atol=1e-37, equal_nan=True)
        torch.testing.assert_close(dx, exact_gradient.float(), rtol=5e-6, atol=1e-37, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_values_and_gradients(kind):
    run_interpreted(check_kernels, *kind)


def test_finite_for_extreme_logits_and_exact_for_sure_ones():
    run_interpreted(check_extreme_logits)


def launches(rows, features, dtype, with_bias, with_targets):
    """Return the launches of training: forward, the D step's backward and the G step's."""
    from fastgan.kernels import leaky_relu_bce as kernels

    def empty(*size, dtype=torch.float32):
        return torch.empty(size, dtype=dtype, device="meta")

    x = empty(*((rows,) if features is None else (rows, features)), dtype=dtype)
    weight, bias, targets = (
        None if features is None else empty(features),
        empty(1) if with_bias else None,
        empty(rows) if with_targets else None,
    )
    _, logits = kernels.forward(x, weight, bias, targets, 0.9, 0.2)
    if features is not None:
        kernels.gradients(x, weight, targets, 0.9, 0.2, logits, empty(1).expand(rows), None, True, True)
    kernels.gradients(x, weight, targets, 0.9, 0.2, logits, empty(1).expand(rows), None, True, False)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_compiles_for_gpus_that_are_not_there(capability, dtype):
    for rows, features, with_bias, with_targets in (
        (64, 8192, False, False),
        (128, 256, True, True),
        (65_536, None, False, False),
    ):
        compiled = compile_launches(
            lambda size=(rows, features, dtype, with_bias, with_targets): launches(*size), capability
        )
        assert len(compiled) == (2 if features is None else 3)
        for kernel in compiled:
            assert f".target sm_{capability}" in kernel.asm["ptx"]
            assert ".local" not in kernel.asm["ptx"]  # registers suffice


def test_the_operators_for_compiled_code_know_their_shapes():
    forward, backward = op._triton_operators()
    with torch._subclasses.FakeTensorMode():
        x, weight = torch.empty(3, 5, dtype=torch.bfloat16, device="cuda"), torch.empty(5, device="cuda")
        loss, logits = forward(x, weight, None, None, 1.0, 0.2)
        dx, dparameters = backward(x, weight, None, 1.0, 0.2, logits, loss, None, True, True)
        assert (loss.shape, logits.shape, dx.shape, dparameters.shape) == ((3,), (3,), (3, 5), (6,))
        assert (loss.dtype, dx.dtype, dparameters.dtype) == (torch.float32, torch.bfloat16, torch.float32)


@pytest.mark.gpu
def test_on_a_gpu():
    assert op.self_check("triton", torch.device("cuda")) is None
