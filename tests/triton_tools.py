"""Tools to test Triton kernels without a GPU.

The kernels are compiled for GPUs that are not there, and run by Triton's interpreter in a process
of its own. Everything here skips the test, with the reason, where triton is not installed.
"""
import atexit
import contextlib
import functools
import importlib.util
import inspect
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest

CAPABILITIES = (80, 90, 100)  # A100, H100 and H200, B200
ROOT = Path(__file__).parents[1]
SECONDS_A_CHECK = 300  # a kernel that hangs in the interpreter is ended then


def compile_for(
    kernel,
    signature: dict[str, str],
    constants: dict[str, object],
    capability: int,
    num_warps: int = 4,
    num_stages: int = 3,
):
    """Return `kernel` compiled for one of CAPABILITIES.

    `.asm["ptx"]` is its PTX, `.asm["cubin"]` its machine code, `.metadata.shared` its shared memory
    in bytes. signature: parameter -> type as Triton writes it ("*bf16", "i32", "fp32"); a ":16"
    behind it promises a multiple of 16 (in bytes for a pointer), without which no load is a wide
    one. constants: parameter -> value, for all others.
    """
    triton = pytest.importorskip("triton", reason="triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {name: signature[name].partition(":")[0] if name in signature else "constexpr" for name in kernel.arg_names}
    multiples = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(kernel.arg_names)
        if signature.get(name, "").endswith(":16")
    }
    source = ASTSource(
        kernel, types, {(kernel.arg_names.index(name),): value for name, value in constants.items()}, multiples
    )
    with _fused_multiply_add():
        return triton.compile(
            source, target=GPUTarget("cuda", capability, 32), options={"num_warps": num_warps, "num_stages": num_stages}
        )


def compile_launches(launch: Callable[[], object], capability: int) -> list:
    """Return the kernels that `launch()` launches, compiled for one of CAPABILITIES.

    None is launched. There is one compiled kernel a launch, as compile_for returns it. This
    compiles the very constants, types and alignments that `launch` chooses. Its tensors may be on
    any device, best on "meta".
    """
    pytest.importorskip("triton", reason="triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    compiled, run = [], JITFunction.run

    def compile_only(self, *args, grid, warmup, **kwargs):
        compiled.append(run(self, *args, grid=grid, warmup=True, **kwargs))

    # Triton keeps compiled kernels by device: the capability as its number keeps these apart from
    # each other and from a real one's.
    absent_gpu = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", capability, 32),
        get_current_device=lambda: capability,
        get_current_stream=lambda device: 0,
    )
    with (
        mock.patch.object(driver, "_active", absent_gpu),
        mock.patch.object(JITFunction, "run", compile_only),
        _fused_multiply_add(),
    ):
        launch()
    return compiled


def run_interpreted(check: str | Callable, *args) -> None:
    """Run a check where Triton's kernels are interpreted on CPU tensors.

    It is `check(*args)`, or a script given by its path in the repository. check: a function at the
    top level of a file that can be imported by itself. args: anything that can be pickled. The test
    fails with the traceback from there, and skips where the check skips. All tests of a run share
    one process: only the first pays for its imports, and a check must leave nothing behind. A plain
    `assert` there shows only its message.
    """
    pytest.importorskip("triton", reason="triton is not installed")
    file, function = (
        (ROOT / check, None) if isinstance(check, str) else (Path(inspect.getfile(check)), check.__qualname__)
    )
    outcome, text = _interpreter().ask((str(file), function, args))
    if outcome == "skipped":
        pytest.skip(text)
    if outcome == "failed":
        what = file.name if function is None else f"{function}({', '.join(map(repr, args))})"
        pytest.fail(f"{what}, run by Triton's interpreter:\n{text}", pytrace=False)


def _fused_multiply_add():
    # The default up to Triton 3.9, which warns where it is not set.
    return mock.patch.dict(os.environ, TRITON_DEFAULT_FP_FUSION="1")


class _Interpreter:
    """The other process.

    It takes (file, function or None, args) and answers (passed | skipped | failed, text).
    """

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        # TRITON_INTERPRET is read when triton is imported, so it cannot be set in a process that
        # compiles kernels as well. One thread: on matrices as small as tiles more of them cost more
        # than they bring.
        settings = {
            "TRITON_INTERPRET": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        command = [sys.executable, "-X", "faulthandler", __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, env={**os.environ, **settings}, pass_fds=(theirs.fileno(),), cwd=ROOT)
        theirs.close()
        atexit.register(self.stop)

    def ask(self, request: tuple) -> tuple[str, str]:
        try:
            self._connection.send(request)
            if self._connection.poll(SECONDS_A_CHECK):
                return self._connection.recv()
            ending = f"still running after {SECONDS_A_CHECK} s"
        except (EOFError, ConnectionError):
            ending = f"the process died with exit code {self._process.wait()}; what it wrote is in the captured output"
        self.stop()
        _interpreter.cache_clear()
        return "failed", ending

    def stop(self) -> None:
        atexit.unregister(self.stop)
        self._connection.close()
        self._process.kill()
        self._process.wait()


@functools.cache
def _interpreter() -> _Interpreter:
    return _Interpreter()


def _answer_requests(connection: Connection) -> None:
    _mend_bfloat16()
    _mend_bounds_of_loops()
    with contextlib.suppress(EOFError, ConnectionError):  # the tests have ended
        while True:
            connection.send(_outcome(*connection.recv()))


def _mend_bfloat16() -> None:
    """Correct the interpreter's products of bfloat16 matrices and its rounding.

    Triton's interpreter multiplies the bits of bfloat16 matrices as integers, and rounds to
    bfloat16 towards zero: no GPU does.
    """
    import numpy as np
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    dot, cast = InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl

    def dot_of_floats(self, a, b, *rest):
        return dot(
            self, *(self.cast_impl(x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b)), *rest
        )

    def cast_to_nearest(self, x, dtype):
        if x.dtype.scalar == tl.float32 and dtype.scalar == tl.bfloat16:
            bits = np.asarray(x.data).view(np.uint32)
            rounded = np.where(np.isnan(x.data), bits, bits + 0x7FFF + (bits >> 16 & 1))  # ties to even
            return TensorHandle((rounded >> 16).astype(np.uint16), tl.bfloat16)
        return cast(self, x, dtype)

    InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl = dot_of_floats, cast_to_nearest


def _mend_bounds_of_loops() -> None:
    """Correct the interpreter's bounds of loops.

    The interpreter of Triton 3.6 makes a number of an array with int(), which NumPy 2.4 and newer
    refuse for one of one element.
    """
    from triton.runtime import interpreter

    patch_tensor = interpreter._patch_lang_tensor

    def patch_and_mend(tensor, scope):
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patch_and_mend


def _outcome(file: str, function: str | None, args: tuple) -> tuple[str, str]:
    try:
        if function is None:
            runpy.run_path(file, run_name="__main__")
        else:
            getattr(_module(file), function)(*args)
    except pytest.skip.Exception as skipped:
        return "skipped", str(skipped)
    except SystemExit as ended:
        return ("failed", f"it ended with exit code {ended.code}") if ended.code else ("passed", "")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # pytest.fail among them
        return "failed", "".join(
            traceback.format_exception(error.with_traceback(_outside_this_file(error.__traceback__)))
        )
    finally:
        sys.stdout.flush()
    return "passed", ""


@functools.cache
def _module(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _outside_this_file(trace):
    while trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


if __name__ == "__main__":
    _answer_requests(Connection(int(sys.argv[1])))
