"""Where the package lies, and where measurements are kept."""
from pathlib import Path

import fastgan

ROOT = Path(fastgan.__file__).parents[1]  # `python -m fastgan` that starts here runs this very package
CHECKOUT = ROOT if (ROOT / "pyproject.toml").is_file() else None  # None where the package is installed
# The present folder where there is no checkout
RESULTS = CHECKOUT / "bench" / "results" if CHECKOUT else Path()
DOCS = CHECKOUT / "docs" if CHECKOUT else Path()
