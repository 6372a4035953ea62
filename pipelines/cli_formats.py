"""The verbs `convert` and `evaluate` of the command line."""

from __future__ import annotations

import csv
import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from model.types import Camera

ConfigOption = Annotated[Path, typer.Option("--config", help="YAML preset; its body is the one that moves")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(convert)
    app.command()(evaluate)


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="motion in any format: a file, a folder, a zip")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="x.npz, x_output.npz, x.npy, a folder, x.zip, x.bvh, x.glb")],
    source_format: Annotated[str | None, typer.Option("--from", help="format of IN; default: told from its contents")] = None,
    target_format: Annotated[
        str | None, typer.Option("--to", help="fit, emage, lhm, talk, talkshow, huge100k, bvh or gltf; default: by OUT's name")
    ] = None,
    rate_in: Annotated[str | None, typer.Option(help="frames/s of an IN that does not say, such as 25 or 30000/1001")] = None,
    rate: Annotated[str | None, typer.Option(help="frames/s to resample to; default: IN's, or the one that the format is for")] = None,
    camera: Annotated[str | None, typer.Option(help="fx,fy,cx,cy,width,height in pixels, of a format that has no camera")] = None,
    w2c: Annotated[str | None, typer.Option(help="16 numbers by rows: world to camera (OpenCV); default: upright at the origin")] = None,
    hands_pca: Annotated[int | None, typer.Option(help="write fingers as so many principal components a hand")] = None,
    config: ConfigOption = Path("configs/sample.yaml"),
) -> None:
    """Convert motion between formats, and say what the target cannot hold."""
    from configs.schema import load_config
    from pipelines.convert import context_of
    from pipelines.convert import convert as run

    try:
        context = context_of(load_config(config))
        seen = _camera(camera, w2c)
        reading = dataclasses.replace(context, rate=_rate(rate_in), camera=seen)
        writing = dataclasses.replace(context, rate=_rate(rate), camera=seen, hands_pca=hands_pca)
        done = run(source, target, reading, writing, source_format, target_format)
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{target}: {done.source_format} → {done.target_format}, {done.frames} frames, {done.seconds:.2f} s")
    for line in done.warnings:
        console.print(f"looks wrong: {line}")
    for line in done.dropped:
        console.print(f"not kept: {line}")


def evaluate(
    folders: Annotated[list[Path], typer.Argument(metavar="TRUTH DIR…", help="folders of motion; the first is the truth")],
    out: Annotated[Path, typer.Option(help="folder for metrics.json, metrics.md and FGD's auto-encoder")] = Path("evaluation"),
    autoencoder: Annotated[Path | None, typer.Option(help="an earlier run's, so that FGD compares; default: fit one to TRUTH")] = None,
    speakers: Annotated[Path | None, typer.Option(help="csv with columns file and speaker; default: read off the names")] = None,
    rate_in: Annotated[str | None, typer.Option(help="frames/s of motion that does not say")] = None,
    reference_rows: Annotated[bool, typer.Option(help="also score an oracle draw, another clip, the nearest one, a frozen pose")] = True,
    config: ConfigOption = Path("configs/sample.yaml"),
) -> None:
    """Score folders of motion, in any format, against a folder of the truth, with its speech where it lies beside it."""
    from configs.schema import load_config
    from pipelines.convert import context_of
    from pipelines.scoring_folders import evaluate_folders
    from pipelines.scoring_summary import cell

    try:
        settings = load_config(config)
        context = dataclasses.replace(context_of(settings), rate=_rate(rate_in))
        result = evaluate_folders(settings, folders, context, out, autoencoder, _speakers(speakers), reference_rows)
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    console = Console(highlight=False)
    console.width = max(console.width, 22 + 28 * len(result["rows"]))
    table = Table("figure", *result["rows"], title=f"{result['clips']} clips of {result['speakers']} speakers, 95 % intervals")
    for figure in result["definitions"]:
        table.add_row(figure, *(cell(row.get(figure)) for row in result["rows"].values()))
    console.print(table)
    for name, notes in result["notes"].items():
        shown = notes[:5] + [f"and {len(notes) - 5} more (metrics.json)"] * (len(notes) > 5)
        console.print(*(f"{name}: {note}" for note in shown), sep="\n", markup=False)
    if result["with_sound"] < result["clips"]:
        console.print(f"sound: beside {result['with_sound']} of {result['clips']} clips; figures of speech look at those alone")
    console.print(f"wrote {out}/metrics.json, metrics.md and autoencoder.safetensors ({result['autoencoder']})", markup=False)


def _speakers(path: Path | None) -> dict[str, str] | None:
    """Clip name → speaker."""
    if path is None:
        return None
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or any("file" not in r or "speaker" not in r for r in rows):
        raise ValueError(f"{path}: expected a csv with the columns file and speaker")
    return {Path(r["file"]).stem: r["speaker"] for r in rows}


def _rate(text: str | None) -> Fraction | None:
    if text is None:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise ValueError(f"rate: expected frames/s such as 30 or 30000/1001, got {text!r}")
    return rate


def _camera(intrinsics: str | None, w2c: str | None) -> Camera | None:
    if intrinsics is None and w2c is None:
        return None
    import torch

    from pipelines.formats_take import default_camera, make_camera

    usual = default_camera()
    pose = torch.tensor(_numbers(w2c, 16, "w2c")).reshape(4, 4) if w2c else usual.w2c
    turn = pose[:3, :3]
    if not torch.allclose(turn @ turn.T, torch.eye(3), atol=1e-3) or torch.det(turn) < 0:
        raise ValueError("w2c: expected a rotation and a shift by rows, 16 numbers, got a matrix that is no rigid motion")
    if intrinsics is None:
        return make_camera(pose, usual.intrinsics.diagonal()[:2], usual.intrinsics[:2, 2], usual.size)
    values = torch.tensor(_numbers(intrinsics, 6, "camera"))
    return make_camera(pose, values[:2], values[2:4], values[4:].long())


def _numbers(text: str, count: int, name: str) -> list[float]:
    try:
        values = [float(x) for x in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) != count:
        raise ValueError(f"{name}: expected {count} numbers separated by commas, got {text!r}")
    return values
