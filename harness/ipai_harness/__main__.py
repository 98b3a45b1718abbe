"""`python -m ipai_harness` is the command `ipai-harness`."""

from __future__ import annotations

import sys

from ipai_harness.cli import main

if __name__ == "__main__":
    sys.exit(main())
