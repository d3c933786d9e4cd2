"""``python -m neurai_core`` is the command ``neurai``."""

import sys

from neurai_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
