"""Draws the boards: `python -m tests.drawing OUT [--boards overview] [--scenarios rich many]`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.drawing.boards import boards
from tests.drawing.drawing import View, start_drawer
from tests.drawing.excuses import EXCUSES
from tests.drawing.findings import findings
from tests.drawing.installation import CannotDrawError, bundle
from tests.drawing.page_server import answers_of
from tests.drawing.scenarios import SCENARIOS, filled


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drawing", description=__doc__)
    parser.add_argument("out", type=Path, help="a folder for the pictures")
    parser.add_argument(
        "--boards", nargs="+", metavar="TEXT", help="boards with these in their names"
    )
    parser.add_argument("--scenarios", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--classic", action="store_true", help="with classic histograms")
    parser.add_argument("--parts", action="store_true", help="also in parts of 1100 pixels")
    parser.add_argument(
        "--keep", action="store_true", help="keep each Prometheus until you press Enter"
    )
    chosen = parser.parse_args()
    bundle()
    with start_drawer(in_parts=chosen.parts) as drawer:
        for name in chosen.scenarios:
            began = time.monotonic()
            with (
                tempfile.TemporaryDirectory() as folder,
                filled(name, Path(folder), classic=chosen.classic) as held,
            ):
                print(f"{name}: filled in {time.monotonic() - began:.1f} s", flush=True)
                for board in boards(chosen.boards):
                    began = time.monotonic()
                    kind = f"{name}-classic" if chosen.classic else name
                    view = View(
                        began=held.began,
                        ended=held.ended,
                        variables=held.variables,
                        theme=chosen.theme,
                    )
                    picture = chosen.out / f"{board['uid']}-{kind}-{chosen.theme}"
                    drawn = drawer.draw(board, answers_of(held.prometheus.url), view, picture)
                    picture.with_suffix(".json").write_text(json.dumps(drawn.facts, indent=1))
                    print(f"  {picture}.png: {time.monotonic() - began:.1f} s", flush=True)
                    for finding in findings(drawn, EXCUSES if name == "rich" else None):
                        print(f"    {finding}")
                if chosen.keep:
                    print(f"{name}: {held.prometheus.url}, until you press Enter", flush=True)
                    sys.stdin.readline()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CannotDrawError as error:
        sys.exit(f"tests.drawing: {error}")
