"""Talk videos to clips, bodies, features and shards: all figures of the talk pipeline in one table.

Its parts can be run alone: benchmarks.talks_cut, talks_fit, talks_data.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks import talks_cut, talks_data, talks_fit
from benchmarks.report import arguments, device_name, publish


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="videos without truth: how far the fit's landmarks are off")
    parser.add_argument("--hour", action="store_true", help="also cut a talk of an hour (about a quarter of an hour)")
    options = parser.parse_args()
    start = time.perf_counter()
    found = [*talks_fit.figures(real=options.real), *talks_cut.figures(hour=options.hour), *talks_data.figures()]
    config = {"real": str(options.real), "hour": options.hour}
    publish("talks", found, device=device_name(), config=config, seconds=time.perf_counter() - start, path=options.json)


if __name__ == "__main__":
    main()
