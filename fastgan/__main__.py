"""`python -m fastgan` is the same program as `fastgan`."""
import sys

from fastgan.cli import main

sys.exit(main())
