"""The command line: parses, builds a Config, calls one function.

`fastgan train | eval | sample | pack | info | bench`.
"""
import os
import signal
import sys

from fastgan.cli.commands import bench
from fastgan.cli.parser import make_parser
from fastgan.errors import DiskError, DivergedError, UserError
from fastgan.files import cache_folder

EXIT_FAILED, EXIT_USER = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for a disk that refuses or a training that
    diverged, 2 for what the user can mend.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["bench"]:
        return bench(arguments[1:])
    # a second run starts from what the first one compiled
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    try:
        options = make_parser().parse_args(arguments)
        exit_code = options.run(options)
        sys.stdout.flush()  # a pipe that nobody reads any more is noticed here, not at the exit of the interpreter
        return exit_code
    except (UserError, DiskError, DivergedError) as error:
        print(f"fastgan: {error}", file=sys.stderr)
        return EXIT_USER if isinstance(error, UserError) else EXIT_FAILED
    except KeyboardInterrupt:
        print("fastgan: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output (head, less) went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
