"""The comparison from evaluations written by hand: its numbers, and a page that needs nothing but itself."""

import json
import re
import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest
import torch

from configs import Config
from model.metrics import Interval
from pipelines.comparison import Comparison, verdict
from pipelines.media import write_video
from pipelines.report import comparison, lineage
from pipelines.report_plots import plot_intervals
from pipelines.scoring import DEFINITIONS, Scored
from pipelines.scoring_summary import Row
from pipelines.store import InputRejected, Store, write_json

ROWS = {
    "stage2": ("ground_truth", "frozen", "end_to_end"),
    "video": ("ground_truth", "true_both", "true_avatar", "true_motion", "two_stage"),
}
QUALITY = {"ground_truth": 30, "frozen": 10, "end_to_end": 21, "true_both": 25, "true_avatar": 22, "true_motion": 23, "two_stage": 19}
RUNS = {"train_stage1": "c1", "train_stage1_run": "r1", "train_stage2": "c2", "train_stage2_run": "r2"}
ABOUT = {"commit": "abc123", "talks_shards": "d1", **RUNS}
CLIPS = {"talk1/a": "speaker1", "talk2/b": "speaker2", "talk3/<b>": "speaker3"}


def written(store: Store) -> None:
    """What stage2_evaluation, baseline_video and stage1_evaluation leave, with figures that are easy to check."""
    truth = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    for kind, folder in (("stage2", store.evaluation("stage2")), ("video", store.baseline("video"))):
        folder.mkdir(parents=True)
        rows = {}
        for name in ROWS[kind]:
            rows[name] = Row(name)
            for i, clip in enumerate(CLIPS):
                psnr = QUALITY[name] + 0.5 * i
                rows[name].clips[clip] = {"psnr": psnr, "upper_mpjpe_mm": 1000.0 / psnr, "mouth_r_gain": psnr / 100}
                rows[name].latents[clip] = (truth, truth + (30 - QUALITY[name]) / 10)
        line = {"time": [0.0, 0.5, 1.0], "mouth": [1.0, 2.0, 1.0], "wrist": [0.1, 0.2, 0.1]}
        curves = {clip: dict.fromkeys(ROWS[kind], line) | {"speech": {"time": [0.0, 1.0], "loudness": [0.2, 1.0]}} for clip in CLIPS}
        Scored(rows, CLIPS, curves).write(folder, known=3, provenance=ABOUT)
    figure = {"value": 20.0, "low": 19.0, "high": 21.0, "clips": 3}
    store.evaluation("stage1").mkdir(parents=True)
    about = {"rows": {"stage1": {"psnr": figure}}, "definitions": {"psnr": "dB"}, "subjects": 3, "provenance": ABOUT}
    write_json(store.evaluation("stage1") / "metrics.json", about)
    film = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3)).astype(np.uint8)
    for folder in (store.evaluation("stage2") / "videos", store.evaluation("stage2") / "truth", store.baseline("video")):
        write_video(folder / "talk1__a.mp4", film, Fraction(25), np.zeros(3840, np.float32))
    store.checkpoint("stage2").mkdir(parents=True)
    (store.checkpoint("stage2") / "metrics.jsonl").write_text("".join(f'{{"step": {i}, "total": {1 / i}}}\n' for i in (1, 2, 3)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    config = Config(workspace=str(tmp_path_factory.mktemp("report") / "workspace"))
    store = Store(config)
    written(store)
    record = comparison(config, store)
    assert record.status == "ok", record.reason
    return config, store, record


def test_gains_are_paired_and_the_ratio_is_of_distances(made):
    found = Comparison.load(made[1]).headline()
    assert found["psnr_gain"] == Interval(2.0, 2.0, 2.0)
    assert found["mouth_gain"].value == pytest.approx(0.02)
    assert found["fgd_ratio"].value == pytest.approx((0.9 / 1.1) ** 2)
    assert {n: verdict(n, i) for n, i in found.items()} == dict.fromkeys(found, "end to end is better")
    assert verdict("psnr_gain", Interval(0.1, -1, 1)) == "undecided: the interval holds 0"
    assert verdict("fgd_ratio", Interval(1.2, 1.1, 1.3)) == "two-stage is better"
    assert verdict("psnr_gain", Interval(0.1, None, None)) == "no interval: too few speakers"


def test_what_each_stage_loses_is_positive_where_it_is_worse(made):
    losses = Comparison.load(made[1]).losses()
    assert {n: i.value for n, i in losses["psnr"].items()} == {"motion": 3.0, "avatar": 2.0, "together": 6.0, "end_to_end": 4.0}
    assert losses["upper_mpjpe_mm"]["together"].value > losses["upper_mpjpe_mm"]["end_to_end"].value > 0


def test_the_same_files_give_the_same_numbers(made):
    first, second = (Comparison.load(made[1]).as_json() for _ in range(2))
    assert first == second
    assert json.loads((made[1].comparison / "table.json").read_text())["headline"] == first["headline"]


def test_the_benchmark_prints_the_same(made, capsys, tmp_path, monkeypatch):
    from benchmarks import comparison as benchmark

    path = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["comparison", "--workspace", str(made[1].root), "--json", str(path)])
    benchmark.main()
    found = {f["name"]: f["value"] for f in json.loads(path.read_text())["figures"]}
    assert (found["psnr_gain"], found["psnr_gain_low"], found["psnr_gain_high"]) == (2.0, 2.0, 2.0)
    assert found["psnr_lost_by_together"] == 6
    assert found["end_to_end_psnr"] == pytest.approx(21.5)
    assert "psnr_gain: 2 [2, 2]: end to end is better" in capsys.readouterr().err
    per_clip = Comparison.load(made[1]).per_clip
    assert benchmark.largest_change(per_clip, per_clip) == 0
    assert benchmark.largest_change(per_clip, {"end_to_end": {}}) == 1e9


def test_dagster_is_told_the_same(made):
    facts = made[2].facts
    assert facts["metrics"]["psnr_gain"] == 2.0
    assert facts["metrics"]["end_to_end/psnr"] == pytest.approx(21.5)
    wanted = {"run": "stage 1 r1, stage 2 r2", "checkpoint": "stage 1 c1, stage 2 c2", "data": "d1", "commit": "abc123"}
    assert facts["lineage"]["stage2"] == wanted
    assert "| psnr | 30.5 [30, 31] |" in facts["table"]
    assert "the truth is the speakers' true motion" in facts["table"]
    assert "| psnr_gain | 2 [2, 2] | end to end is better |" in facts["table"]
    assert facts["table"] == (made[1].comparison / "table.md").read_text()


def test_every_panel_of_the_still_plot_has_the_rows_that_the_first_one_names(made, monkeypatch, tmp_path):
    from matplotlib import pyplot as plt

    kept = []
    monkeypatch.setattr(plt, "close", kept.append)
    line = ("two-stage", "#c96a12", Interval(1.0, 0.5, 2.0))
    panels = [("psnr", [("truth", "#18202b", None), line]), ("fgd", [("truth", "#18202b", Interval(0.0, 0.0, 0.0)), line])]
    plot_intervals(tmp_path / "a.png", panels)
    first, second = kept.pop().axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["truth", "two-stage"]
    assert [text.get_text() for text in first.texts] == ["no value"]
    points = [[line.get_ydata()[0] for line in axis.lines if line.get_marker() == "o"] for axis in (first, second)]
    assert points == [[1], [0, 1]]  # one height, one row
    monkeypatch.undo()
    plot_intervals(tmp_path / "b.png", panels)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(ValueError, match=r"expected the lines \['truth', 'two-stage'\] in every panel, got \['two-stage'\] in jerk"):
        plot_intervals(tmp_path / "c.png", [*panels, ("jerk", [line])])


def test_an_interval_without_end_leaves_the_values_apart(monkeypatch, tmp_path):
    from matplotlib import pyplot as plt

    kept = []
    monkeypatch.setattr(plt, "close", kept.append)
    one, other = Interval(0.4, -6e6, 6e6), Interval(1.2, 1.0, 1.5)
    plot_intervals(tmp_path / "a.png", [("fgd", [("one", "#18202b", one), ("other", "#c96a12", other)])])
    low, high = kept.pop().axes[0].get_xlim()
    assert low < 0.4 - 2 * 0.8 < 1.2 + 2 * 0.8 < high
    assert high - low < 10


def test_the_page_needs_nothing_but_itself(made):
    page = (made[1].comparison / "report.html").read_text()
    outside = [a for a in re.findall(r'(?:src|href|poster)="([^"]*)"', page) if not a.startswith(("data:", "#"))]
    assert outside == []
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\s\"']+", page)) <= {"http://www.w3.org/2000/svg"}
    assert '<meta name="viewport"' in page
    assert "@media print" in page
    assert "talk3/<b>" not in page  # names are escaped
    assert '<td class="ours">21.5<small>21.0 … 22.0</small></td>' in page  # three digits, no more
    assert len(re.findall(r'<img class="still"', page)) == 1  # the film's, for paper
    assert len(re.findall(r'<figure class="card still"><img [^>]*image/png', page)) == 2  # all figures at once, where nobody can choose
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))
    assert data["rows"]["end_to_end"]["psnr"]["value"] == pytest.approx(21.5)
    figures = re.search(r'id="figure-choice">(.*?)</select>', page).group(1)
    assert re.findall(r"<option>(\w+)", figures) == [n for n in DEFINITIONS if n in data["rows"]["end_to_end"]]
    # every section with figures says what made them
    for section in re.findall(r"<section id=\"(?!lineage)(.*?)</section>", page, re.S):
        assert all(word in section for word in ("r2", "c2", "d1", "abc123")) or section.startswith("stage1-section"), section[:80]


def test_a_missing_evaluation_is_told(tmp_path):
    store = Store(Config(workspace=str(tmp_path)))
    with pytest.raises(InputRejected, match=r"lacks .*stage1/metrics\.json.*run those assets first"):
        Comparison.load(store)
    assert lineage({}) == []


def browsed(tmp_path, page, *options):
    """What a headless Chromium says about a page, and its log."""
    words = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--enable-logging=stderr"]
    words += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=3000", *options, f"file://{page}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_a_browser_draws_it_without_a_network(made, tmp_path):
    drawn, log = browsed(tmp_path, made[1].comparison / "report.html", "--window-size=420,900", "--dump-dom")
    assert "CONSOLE" not in log  # no error of the script's
    assert len(re.findall(r"<circle", drawn)) == 4 + 4  # psnr of four rows with it, losses of four
    assert len(re.findall(r"<path", drawn)) >= 2 * 3 + 1  # two plots of three rows, the training's
    assert 'id="figure-says">PSNR' in drawn


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
@pytest.mark.parametrize("width", [320, 375])
def test_nothing_sticks_out_on_a_phone(made, tmp_path, width):
    long = "speaker700000_talk700000/speaker700000_talk700000_00000000"  # ids of filmed speakers are longer than a phone is wide
    page = tmp_path / "page.html"
    page.write_text((made[1].comparison / "report.html").read_text().replace("talk1/a", long))
    frame = tmp_path / "frame.html"  # a window is never narrower than 500
    frame.write_text(
        f"<iframe width={width} height=900 src=page.html></iframe><script>onload = () => document.title = "
        "document.querySelector('iframe').contentDocument.documentElement.scrollWidth</script>"
    )
    drawn, _ = browsed(tmp_path / "profile", frame, "--allow-file-access-from-files", "--dump-dom")
    assert 0 < int(re.search(r"<title>(\d+)</title>", drawn).group(1)) <= width


@pytest.mark.skipif(not all(map(shutil.which, ("chromium", "pdftotext"))), reason="no chromium or no pdftotext")
@pytest.mark.parametrize("paper", ["A4", "letter", "200mm 230mm", "150mm 210mm"])
def test_on_paper_no_heading_is_left_alone_and_nothing_is_for_the_screen(made, tmp_path, paper):
    text = (made[1].comparison / "report.html").read_text()
    assert "@page { margin" in text
    page, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(text.replace("@page { margin", f"@page {{ size: {paper}; margin"))
    browsed(tmp_path / "profile", page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    said = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    pages = [[line.strip() for line in lines.splitlines() if line.strip()] for lines in said.split("\f")[:-1]]
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert len(headings) >= 8
    for heading in headings:
        lines = next(lines for lines in pages if heading in lines)
        assert lines.index(heading) < len(lines) - 1, f"{heading!r} ends a page of {paper}"
    assert not any("Touch or point" in line or line.startswith("| psnr") for lines in pages for line in lines)
    assert all(pages)  # none is empty
