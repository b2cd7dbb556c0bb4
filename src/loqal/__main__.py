"""``python -m loqal`` is the command ``loqal``."""

from __future__ import annotations

import sys

from loqal.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
