"""A described H200: torch compiles for it on a machine that has none.

Inside `described_gpu()` Inductor and Triton are told what `cuda:0` is, and fake tensors may be on
it. Nothing can run there. `cuda_graph_code` takes a graph through autograd and Inductor up to the
code that would be loaded, and `machine_codes` compiles a kernel of it. This is the only file that
replaces private parts of torch; it refuses releases on which that was not tried.
"""

import contextlib
import importlib.util
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import torch

from fastgan.errors import UserError

KNOWN = ("2.11", "2.13")  # releases of torch on which the replacements below were tried
CAPABILITY = (9, 0)
# As an H200 describes itself.
PROPERTIES = SimpleNamespace(
    name="NVIDIA H200", major=9, minor=0, multi_processor_count=132, total_memory=141 << 30, L2_cache_size=60 << 20,
    warp_size=32, regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048, max_threads_per_block=1024,
    shared_memory_per_multiprocessor=233472, shared_memory_per_block=49152, shared_memory_per_block_optin=232448,
    gcnArchName="", uuid="described",
)  # fmt: skip
HOW_TO = f"make an environment that can: bash {Path(__file__).with_name('environment.sh')} FOLDER"


def check_this_torch() -> None:
    """Raise UserError where this torch cannot generate CUDA code without a GPU.

    The error names the way to correct it.
    """
    if torch.version.cuda is None:
        raise UserError(f"torch {torch.__version__} is a CPU build, which generates no CUDA code; {HOW_TO}")
    release = ".".join(torch.__version__.split(".")[:2])
    if release not in KNOWN:
        known = " and ".join(KNOWN)
        raise UserError(
            f"described_gpu.py knows the private parts of torch {known}, not of {torch.__version__}; {HOW_TO}"
        )
    if torch.cuda.is_available():
        raise UserError(
            "CUDA code for a described GPU is generated where there is none: hide this one, CUDA_VISIBLE_DEVICES="
        )


@contextlib.contextmanager
def described_gpu() -> Iterator[None]:
    """Let torch's compiler find an H200 inside the context.

    Raises UserError as check_this_torch does, or for a missing private part.
    """
    check_this_torch()
    with contextlib.ExitStack() as stack:
        try:
            _replace(stack)
        except (AttributeError, ImportError) as error:
            raise UserError(f"described_gpu.py does not fit torch {torch.__version__}: {error}; {HOW_TO}") from error
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # torch's, of devices that it looked for
        yield


def _replace(stack: contextlib.ExitStack) -> None:
    import torch._dynamo.device_interface
    import torch._inductor.runtime.triton_helpers
    import torch._subclasses.fake_tensor
    import torch.cuda.amp.common
    import triton

    def put(target: object, **replacements: object) -> None:
        for name, replacement in replacements.items():
            stack.enter_context(mock.patch.object(target, name, replacement))

    # The device, asked for by torch, Dynamo, Inductor and Triton.
    described = {
        "get_device_properties": lambda device=None: PROPERTIES,
        "current_device": lambda: 0,
        "is_bf16_supported": lambda including_emulation=True: True,
    }
    put(
        torch.cuda,
        **described,
        get_device_capability=lambda device=None: CAPABILITY,
        get_device_name=lambda device=None: PROPERTIES.name,
    )
    put(torch.cuda.amp.common, amp_definitely_not_available=lambda: False)
    of_dynamo = described | {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_compute_capability": lambda device=None: 90,
        "is_triton_capable": lambda device=None: True,
        "raise_if_triton_unavailable": lambda device=None: None,
        "synchronize": lambda device=None: None,
    }
    interface = torch._dynamo.device_interface.CudaInterface
    put(interface, **{name: staticmethod(answer) for name, answer in of_dynamo.items()})
    put(
        interface.Worker,
        **{name: staticmethod(described[name]) for name in ("get_device_properties", "current_device")},
    )
    put(triton.runtime.driver, _active=_driver())
    put(torch._inductor.runtime.triton_helpers, set_driver_to_gpu=lambda: None)
    _forget_the_absence(stack)

    # Fake tensors need no context there, and convolutions give the memory format that cuDNN does.
    put(torch._subclasses.fake_tensor, init_gpu_context=lambda device: None)
    put(torch._C, _select_conv_backend=_cudnn)


def _driver() -> object:
    """Answer Triton's queries about a device."""
    from triton.backends.compiler import GPUTarget

    most, processors = PROPERTIES.shared_memory_per_block_optin, PROPERTIES.multi_processor_count
    properties = {"max_shared_mem": most, "multiprocessor_count": processors}
    return SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", 90, PROPERTIES.warp_size),
        get_current_device=lambda: 0,
        get_current_stream=lambda device=0: 0,
        get_device_capability=lambda device=0: CAPABILITY,
        utils=SimpleNamespace(get_device_properties=lambda device: properties),
    )


def _forget_the_absence(stack: contextlib.ExitStack) -> None:
    """Clear torch's cached answers about devices; called on both sides of the description."""
    import torch.utils._triton

    kept = [each for each in vars(torch.utils._triton).values() if hasattr(each, "cache_clear")]
    for each in kept:
        each.cache_clear()
        stack.callback(each.cache_clear)


def _cudnn(*arguments: object, transposed: bool = False, **rest: object) -> object:
    return torch._C._ConvBackend.CudnnTranspose if transposed else torch._C._ConvBackend.Cudnn


# --- a graph through Inductor ----------------------------------------------------------------------------------------


class Code(NamedTuple):
    """The code that Inductor made of a graph."""

    text: str  # the module that would be loaded: kernels, and call(), which launches them
    bytes_of: dict[str, int]  # of every buffer and every input, by the name that call() gives it


class _Reached(BaseException):
    """Raised where Inductor was to be stopped."""


def cuda_graph_code(graph: torch.fx.GraphModule, inputs: list, options: dict) -> Code:
    """Compile Dynamo's `graph`, traced on the CPU, as Inductor would for the described GPU.

    options: Inductor's.

    Autograd, too, is traced on the CPU (its engine asks CUDA for streams); then the devices are
    exchanged and every operation is propagated anew. So dtypes are those of the CPU's autocast.
    Raises whatever the compiler raises.
    """
    check_this_torch()
    aten, cpu_inputs, arguments = _aten(graph, inputs, options)
    with described_gpu():
        return _through_inductor(aten, cpu_inputs, arguments, options)


def _aten(graph: torch.fx.GraphModule, inputs: list, options: dict) -> tuple[torch.fx.GraphModule, list, dict]:
    """Return (the graph of aten operations, its inputs, Inductor's other arguments)."""
    from torch._inductor.compile_fx import compile_fx

    reached: list[tuple] = []

    def stop(aten: torch.fx.GraphModule, example_inputs: list, **settings: object) -> None:
        reached.append((aten, example_inputs, settings))
        raise _Reached

    with contextlib.suppress(_Reached):
        compile_fx(graph, inputs, inner_compile=stop, config_patches=options)
    return reached[0]


def _through_inductor(aten: torch.fx.GraphModule, inputs: list, arguments: dict, options: dict) -> Code:
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv
    from torch.fx.passes.fake_tensor_prop import FakeTensorProp

    reached: list[Code] = []

    def stop(lowering: GraphLowering, code: object) -> None:
        reached.append(Code(code.value, _bytes_of(lowering)))
        raise _Reached

    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    fakes = [_like(tensor, mode) if isinstance(tensor, torch.Tensor) else tensor for tensor in inputs]
    _exchange_devices(aten)
    for node in aten.graph.nodes:
        node.meta.pop("val", None)
    FakeTensorProp(aten, mode=mode).propagate_dont_convert_inputs(*fakes)
    settings = config.patch({**options, "fx_graph_cache": False})
    with (
        mock.patch.object(GraphLowering, "_compile_to_module_lines", stop),
        contextlib.suppress(_Reached),
        settings,
        tracing(TracingContext(mode)),
        V.set_fake_mode(mode),
    ):
        compile_fx_inner(aten, fakes, **{**arguments, "cudagraphs": None})
    return reached[0]


def _like(tensor: torch.Tensor, mode: object) -> torch.Tensor:
    with mode:
        return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cuda:0")


def _exchange_devices(graph: torch.fx.GraphModule) -> None:
    """Put cuda:0 wherever an operation names the CPU, in place."""

    def exchanged(argument: object) -> object:
        is_cpu = isinstance(argument, torch.device) and argument.type == "cpu"
        return torch.device("cuda", 0) if is_cpu else argument

    for module in graph.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.args, node.kwargs = (
                    torch.fx.node.map_aggregate(each, exchanged) for each in (node.args, node.kwargs)
                )
            module.recompile()


def _bytes_of(lowering: object) -> dict[str, int]:
    """Return the bytes of every buffer that has one layout, in the order of the program."""
    sizes = {}
    for name, buffer in (*lowering.graph_inputs.items(), *lowering.name_to_buffer.items()):
        while not hasattr(buffer, "layout") and hasattr(buffer, "data"):  # boxes around an input
            buffer = buffer.data
        layout = getattr(buffer, "layout", None)
        if hasattr(layout, "size") and hasattr(layout, "dtype"):
            sizes[name] = math.prod(int(length) for length in layout.size) * layout.dtype.itemsize
    return sizes


# --- a kernel to machine code ----------------------------------------------------------------------------------------


def machine_codes(source: str, name: str, file: Path) -> list[tuple[bytes, str, int]]:
    """Compile a Triton kernel of Inductor's, for each configuration of its first run.

    Returns (machine code, PTX, bytes of shared memory) of each.

    source: the module that Inductor wrote for the kernel `name`, written into `file`. Raises what
    Triton raises.
    """
    import triton

    with described_gpu():
        file.write_text(source)
        spec = importlib.util.spec_from_file_location(f"described_{name}", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        tuner, compiled, compile = getattr(module, name), [], triton.compile

        def keeping(*arguments: object, **options: object) -> object:
            compiled.append(compile(*arguments, **options))
            return compiled[-1]

        with mock.patch.object(triton, "compile", keeping):
            for configuration in tuner.configs:
                tuner._precompile_config(configuration)
    return [(kernel.asm["cubin"], kernel.asm["ptx"], kernel.metadata.shared) for kernel in compiled]
