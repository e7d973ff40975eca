"""Draws the boards: `python -m tests.drawing OUT [--boards overview] [--scenarios rich many]`.

With `--prometheus URL` it draws them of a Prometheus of yours.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.drawing.boards import boards
from tests.drawing.drawing import Drawer, View, start_drawer
from tests.drawing.excuses import EXCUSES
from tests.drawing.findings import Empties, findings
from tests.drawing.installation import CannotDrawError, bundle
from tests.drawing.page_server import answers_of
from tests.drawing.scenarios import SCENARIOS, filled


def _chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.drawing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="a folder for the pictures")
    parser.add_argument(
        "--boards", nargs="+", metavar="TEXT", help="boards with these in their names"
    )
    parser.add_argument("--scenarios", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--prometheus", metavar="URL", help="instead of the scenarios")
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="range until now, with --prometheus"
    )
    parser.add_argument(
        "--export-interval", default="1m", help="time between samples, with --prometheus"
    )
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--classic", action="store_true", help="with classic histograms")
    parser.add_argument("--parts", action="store_true", help="also in parts of 1100 pixels")
    parser.add_argument(
        "--keep", action="store_true", help="keep each Prometheus until you press Enter"
    )
    return parser.parse_args()


def _draw(
    chosen: argparse.Namespace,
    drawer: Drawer,
    url: str,
    view: View,
    name: str,
    empties: Empties | None,
) -> None:
    for board in boards(chosen.boards):
        began = time.monotonic()
        picture = chosen.out / f"{board['uid']}-{name}-{chosen.theme}"
        drawn = drawer.draw(board, answers_of(url), view, picture)
        picture.with_suffix(".json").write_text(json.dumps(drawn.facts, indent=1))
        print(f"  {picture}.png: {time.monotonic() - began:.1f} s", flush=True)
        for finding in findings(drawn, empties):
            print(f"    {finding}")


def main() -> int:
    chosen = _chosen()
    bundle()
    with start_drawer(in_parts=chosen.parts) as drawer:
        if chosen.prometheus:
            now = time.time()
            view = View(
                began=now - 60 * chosen.minutes,
                ended=now,
                variables={"export_interval": chosen.export_interval},
                theme=chosen.theme,
            )
            _draw(chosen, drawer, chosen.prometheus.rstrip("/"), view, "live", None)
            return 0
        for name in chosen.scenarios:
            began = time.monotonic()
            with (
                tempfile.TemporaryDirectory() as folder,
                filled(name, Path(folder), classic=chosen.classic) as held,
            ):
                print(f"{name}: filled in {time.monotonic() - began:.1f} s", flush=True)
                view = View(
                    began=held.began,
                    ended=held.ended,
                    variables=held.variables,
                    theme=chosen.theme,
                )
                kind = f"{name}-classic" if chosen.classic else name
                empties = EXCUSES if name == "rich" else None
                _draw(chosen, drawer, held.prometheus.url, view, kind, empties)
                if chosen.keep:
                    print(f"{name}: {held.prometheus.url}, until you press Enter", flush=True)
                    sys.stdin.readline()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CannotDrawError as error:
        sys.exit(f"tests.drawing: {error}")
