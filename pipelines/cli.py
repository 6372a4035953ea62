"""The command line, `speech-avatar`: one picture and one voice to a video; SMPL-X of any video; motion formats and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines import cli_formats

app = typer.Typer(help="Speech in, a moving, renderable 3D human out.", no_args_is_help=True, pretty_exceptions_enable=False)
ConfigOption = Annotated[Path, typer.Option("--config", help="YAML preset; its workspace holds the checkpoints")]


@app.command()
def speak(
    image: Annotated[Path, typer.Option(help="any picture with one person")],
    audio: Annotated[Path, typer.Option(help="any audio (or video) file that FFmpeg reads")],
    out: Annotated[Path, typer.Option(help="the mp4 to write")],
    checkpoint: Annotated[Path | None, typer.Option(help="stage 2 safetensors; default: the workspace's, or the shipped one where there is none")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="read the sound piece by piece and speak as it comes")] = False,
    seed: Annotated[int | None, typer.Option(help="of the chance in gestures; default: the configuration's")] = None,
    config: ConfigOption = Path("configs/sample.yaml"),
) -> None:
    """Make a video of the pictured person speaking the audio."""
    from configs.schema import load_config
    from pipelines.speak import speak as run
    from pipelines.store import InputRejected

    try:
        facts = run(load_config(config), image, audio, out, checkpoint=checkpoint, live=stream, seed=seed)
    except (InputRejected, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    made = f"{out}: {facts['seconds']:.2f} s of video, {facts['frames']} frames, made in {facts['wall_seconds']:.1f} s"
    typer.echo(f"{made} (first frame {facts['first_frame_ms']:.0f} ms after the first sound)")


@app.command()
def fit(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="any videos of a person who speaks")],
    out: Annotated[Path, typer.Option(help="folder for the results; a second call does only what is new")],
    height: Annotated[float | None, typer.Option(min=1.0, max=2.3, help="of the person, metres; default: guessed")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML preset: its cut, fit and body; default: theirs")] = None,
) -> None:
    """Fit SMPL-X to videos: for each clip a fit file, EMAGE's npz, LHM's JSON and an overlay video."""
    from configs.schema import Config, load_config
    from pipelines.fit_report import fit_table, left_out_table
    from pipelines.fit_video import fit_video, log_path
    from pipelines.progress import chatter_to

    failed = False
    for video in videos:
        try:
            settings = load_config(config) if config else Config.model_validate({})
            if height is not None:
                settings = Config.model_validate({**settings.model_dump(), "fit": {**settings.fit.model_dump(), "height": height}})
            with chatter_to(log_path(out)):
                done = fit_video(settings, video, out, typer.echo)
        except (ValueError, RuntimeError, OSError) as error:
            typer.echo(f"error: {error}", err=True)
            failed = True
            continue
        for table in (fit_table(done.facts), left_out_table(done.facts)):
            if table is not None:
                Console().print(table)
        typer.echo(f"written to {done.folder}")
    if failed:
        raise typer.Exit(2)


@app.command()
def doctor(config: ConfigOption = Path("configs/sample.yaml")) -> None:
    """Say which real components are found and what is used instead."""
    from configs.schema import load_config
    from pipelines.doctor import examine

    table = Table("component", "found", "detail", "in use", title=f"speech-avatar with {config}")
    for finding in examine(load_config(config)):
        table.add_row(finding.component, "yes" if finding.found else "no", escape(finding.detail), escape(finding.used))
    Console().print(table)


cli_formats.register(app)

if __name__ == "__main__":
    app()
