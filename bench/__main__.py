"""In a checkout, `python -m bench`: the same as `fastgan bench`."""
import sys

from fastgan.bench.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m bench"))
