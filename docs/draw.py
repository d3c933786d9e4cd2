"""Runs the Python blocks of a page and keeps the pictures that they draw in docs/assets.

python docs/draw.py gallery gallery-networks

Pictures have the ground and the ink of all others, which read on white and on black.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path

import matplotlib

from neurai_core.report.canvas import STYLE

FOLDER = Path(__file__).resolve().parent


def draw(page: Path, folder: Path) -> None:
    """Run a page inside a folder."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    with contextlib.chdir(folder), matplotlib.rc_context(STYLE):
        names: dict[str, object] = {}
        for block in blocks:
            exec(compile(block, str(page), "exec"), names)


def main(pages: list[str]) -> None:
    """Draw the pictures of these pages."""
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in pages:
        with tempfile.TemporaryDirectory() as folder:
            draw(FOLDER / f"{name}.md", Path(folder))
            for picture in Path(folder).glob("*.png"):
                (FOLDER / "assets" / picture.name).write_bytes(picture.read_bytes())
                print(picture.name)


if __name__ == "__main__":
    main(sys.argv[1:])
