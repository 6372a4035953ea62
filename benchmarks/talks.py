"""Talk videos to clips, bodies, features and shards: all figures of the talk pipeline in one table.

Its parts can be run alone: benchmarks.talks_cut, talks_fit, talks_data.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks import talks_cut, talks_data, talks_fit
from benchmarks.report import arguments, device_name, publish

QUICK_TALK, QUICK_FRAMES = "speaker18_maps", 30


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="videos without truth: how far the fit's landmarks are off")
    parser.add_argument("--hour", action="store_true", help="also cut a talk of an hour (about a quarter of an hour)")
    parser.add_argument("--talks", type=Path, metavar="FOLDER", help="where talks rendered for the cut are kept for the next time")
    parser.add_argument("--quick", action="store_true", help="whether everything runs: one talk of each kind; no figure to go by")
    options = parser.parse_args()
    start = time.perf_counter()
    if options.quick:
        fits = talks_fit.figures(seeds=(), talks=[QUICK_TALK], frames=QUICK_FRAMES, real=options.real)
        cuts = talks_cut.figures(options.talks, seeds=(talks_cut.SEEDS[0],), minutes=())
    else:
        fits, cuts = talks_fit.figures(real=options.real), talks_cut.figures(options.talks, hour=options.hour)
    found = [*fits, *cuts, *talks_data.figures(options.quick)]
    config = {"real": str(options.real), "hour": options.hour, "quick": options.quick}
    publish("talks", found, device=device_name(), config=config, seconds=time.perf_counter() - start, path=options.json)


if __name__ == "__main__":
    main()
