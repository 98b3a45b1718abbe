"""`python -m ipai_bridge` is `ipai-bridge`."""

from __future__ import annotations

import sys

from ipai_bridge.cli import main

if __name__ == "__main__":
    sys.exit(main())
