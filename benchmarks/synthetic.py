"""Write a GGUF file of a published size with random weights: real shapes and formats, for measuring speed.

python benchmarks/synthetic.py 0.8B Q4_K_M build/bench-models/0.8B-Q4_K_M.gguf
"""

from __future__ import annotations

import argparse
from pathlib import Path

from loqal.model.sizes import SIZES
from loqal.testing.checkpoints import RECIPES, write_synthetic


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("recipe", help=f"{', '.join(RECIPES)}, or one format for all matrices")
    parser.add_argument("path", type=Path)
    parser.add_argument("--draft", action="store_true", help="with the draft head")
    given = parser.parse_args()
    write_synthetic(given.path, given.size, given.recipe, draft=given.draft)


if __name__ == "__main__":
    main()
