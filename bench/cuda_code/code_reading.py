"""Launches of generated code and the bytes that each moves, read from the text."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

# Our operators that are one launch and one pass over their tensors, by kind.
PASSES = {
    "fastgan.batch_norm_statistics_triton": "statistics",
    "fastgan.batch_norm_gradient_sums_triton": "norm gradients",
    "fastgan.batch_stats_finish": "statistics",
    "fastgan.channel_sums": "rest",
}
KINDS = ("statistics", "norm gradients", "activations", "casts", "optimisers", "rest")  # of Triton launches
LIBRARY_KINDS = ("convolutions", "weight gradients", "products", "other")
ITEM_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8, "i1": 1, "i8": 1, "u8": 1, "i16": 2, "i32": 4, "i64": 8}

DEFINITION = re.compile(r"^(\w+) = async_compile\.triton\('\w+', '''(.*?)''', device_str='cuda'\)", re.S | re.M)
LAUNCH = re.compile(r"^\s+(\w+)\.run\((.*), stream=\w+\)")
LIBRARY = re.compile(r"(?:extern_kernels|torch\.ops|aten)\.([\w.]+)\((.*)\)")
VIEW = re.compile(r"reinterpret_tensor\((\w+), \(([\d, ]*)\), \([\d, ]*\), \d+\)")


class Launch(NamedTuple):
    """One launch of a kernel of the compiler's or of ours."""

    name: str
    kind: str  # one of KINDS
    bytes: int  # read and written


class Reading(NamedTuple):
    """The launches and bytes of all of call()."""

    launches: list[Launch]
    library: list[tuple[str, str]]  # (name, one of LIBRARY_KINDS); one launch each, for what is inside cannot be seen
    kernels: dict[str, str]  # name -> the module that Inductor wrote for it


def read(text: str, bytes_of: dict[str, int]) -> Reading:
    """Read the launches and their bytes from generated code.

    text: the code of Inductor. bytes_of: the bytes of every buffer and input by name.
    """
    kernels = {match[1]: match[2] for match in DEFINITION.finditer(text)}
    body = text[text.index("def call(") :]
    launches, library, source_nodes = [], [], ""
    for line in body.splitlines():
        if "Source Nodes:" in line:
            source_nodes = line
        elif launch := LAUNCH.match(line):
            name, arguments = launch[1], list(_arguments(launch[2]))
            launches.append(
                Launch(
                    name, _kind(name, kernels[name], source_nodes), _bytes_of_launch(kernels[name], arguments, bytes_of)
                )
            )
        elif call := LIBRARY.search(line):
            _add_call(call[1].removesuffix(".default"), line, bytes_of, launches, library)
    return Reading(launches, library, kernels)


def _add_call(
    name: str, line: str, bytes_of: dict[str, int], launches: list[Launch], library: list[tuple[str, str]]
) -> None:
    if name in PASSES:  # its results are small beside what it reads
        tensors = set(re.findall(r"\b(?:buf|arg)\w+", line.partition("=")[2]))
        launches.append(Launch(name, PASSES[name], sum(bytes_of.get(tensor, 0) for tensor in tensors)))
    else:
        library.append((name, _library_kind(name)))


def _library_kind(name: str) -> str:
    if "convolution_backward" in name or "deconv_weight" in name:
        return "weight gradients"
    if "conv" in name:
        return "convolutions"
    return "products" if name.rpartition(".")[2] in ("mm", "addmm", "bmm", "baddbmm") else "other"


def _kind(name: str, kernel: str, source_nodes: str) -> str:
    """Return the kind of a kernel.

    It follows from the operations that the compiler has put into the kernel, which its name lists,
    and from the types of a list's items.
    """
    is_reduction = name.startswith(("triton_red_", "triton_per_"))
    if name.startswith("triton_for_"):
        return "casts" if _only_casts(kernel) else "optimisers"
    if "batch_norm_backward" in name and is_reduction:
        return "norm gradients"
    if "batch_norm" in name and is_reduction:
        return "statistics"
    if is_reduction:
        return "rest"
    if any(word in name or word in source_nodes for word in ("batch_norm", "relu", "tanh", "where")):
        return "activations"
    return "casts" if re.fullmatch(r"triton_poi_fused__to_copy(_view)?_\d+", name) else "rest"


def _only_casts(kernel: str) -> bool:
    """Return True for a kernel over a list that only casts float32 to a lower precision.

    Such a kernel changes nothing in place.
    """
    types = {name: kind for name, kind in _types(kernel).items() if kind.startswith("*")}
    written = {kind for name, kind in types.items() if name.startswith("out_ptr")}
    return bool(written) and written <= {"*bf16", "*fp16"} and not any(name.startswith("in_out") for name in types)


# --- bytes -----------------------------------------------------------------------------------------------------------


def _bytes_of_launch(kernel: str, arguments: list[str], bytes_of: dict[str, int]) -> int:
    """Return the bytes that a kernel can reach through its pointers.

    Counted is the part of its buffer that the kernel can reach through each pointer: read, written,
    or both where it works in place.

    A kernel reads no more of a buffer than its loads times its elements: gathering a batch does not
    read the data set.
    """
    types = {name: kind for name, kind in _types(kernel).items() if kind != "constexpr"}
    elements = _elements(kernel)
    total = 0
    for (name, kind), argument in zip(types.items(), arguments, strict=False):
        if kind.startswith("*"):
            item = ITEM_BYTES[kind[1:]]
            loads = len(set(re.findall(rf"tl\.load\({name} \+ \((.*?)\), ", kernel))) or 1
            reached = _bytes_of_argument(argument, item, bytes_of)
            total += (min(reached, elements * loads * item) if elements else reached) * (
                2 if name.startswith("in_out") else 1
            )
    return total


def _types(kernel: str) -> dict[str, str]:
    """Return the parameters of a kernel and their types."""
    signature = re.search(r"'signature': (\{.*?\})", kernel)
    return ast.literal_eval(signature[1])


def _elements(kernel: str) -> int:
    """Return the elements of the space that a kernel iterates over.

    0 for several kernels in one, each of which has a space of its own.
    """
    if "num_xblocks_0" in kernel or "num_kernels" in kernel:
        return 0
    product = 1
    for length in re.findall(r"^    \w*numel = (\d+)$", kernel, re.M):
        product *= int(length)
    return product


def _bytes_of_argument(argument: str, item: int, bytes_of: dict[str, int]) -> int:
    if view := VIEW.match(argument):
        elements = 1
        for length in view[2].split(","):
            elements *= int(length) if length.strip() else 1
        return min(elements * item, bytes_of.get(view[1], elements * item))
    return bytes_of.get(argument, 0)


def _arguments(text: str) -> Iterator[str]:
    """Split the arguments of a call at the commas outside of parentheses."""
    depth, argument = 0, ""
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            yield argument.strip()
            argument = ""
        else:
            argument += character
    yield argument.strip()
