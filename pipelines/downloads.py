"""Videos behind URLs, fetched through yt-dlp as a library: bounded, resumed, recorded, never fetched twice.

A talk's folder `downloads/<talk>/` holds the video, beside it `download.json`, written last: URL, file, bytes, hash, and
what server and page said. Until then there are `*.part`, what has come so far, and `begun.json`, what the server said of
the file when the part was begun: where it says something else now, the part is thrown away, not continued.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.schema import TalksConfig
from pipelines.media_open import MediaError
from pipelines.media_write import join_tracks
from pipelines.store import Store, hash_file, write_json

LONGEST_PAUSE = 60.0  # seconds between two tries
MAY_PASS = (408, 425, 429)  # HTTP states, beside 5xx, after which a second try makes sense
BROKE_OFF = "[download] Got error:"  # yt-dlp's words for faults of the way, whose causes it does not keep
NO_ROOM = (27, 28, 122)  # EFBIG, ENOSPC, EDQUOT


class DownloadFailed(ValueError):
    """One line: what was expected, what came, what to do."""


class _Broken(DownloadFailed):
    """A try that failed in a way that a further one may not."""


@dataclass(frozen=True)
class Download:
    """A video that was fetched."""

    url: str
    file: str
    bytes: int
    sha: str
    title: str = ""
    licence: str = ""  # as the page states it
    page: str = ""
    server: dict[str, str] | None = None  # etag, last-modified, length of the file as the server states them
    folder: Path = Path()  # not recorded

    @property
    def path(self) -> Path:
        return self.folder / self.file


def folder_of(store: Store, talk_id: str) -> Path:
    return store.inside("downloads", talk_id)


def fetch(config: TalksConfig, folder: Path, name: str, url: str) -> Download:
    """The video behind `url` as `<folder>/<name>.<kind>`; one that was fetched whole before is not asked for again.

    A try that breaks off is followed by `download_retries` more, each of which goes on where the last one stopped.
    Errors: DownloadFailed, one line.
    """
    done = _done(folder, url)
    if done is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "download.json").unlink(missing_ok=True)
    deadline = time.monotonic() + config.download_hours * 3600
    for failures in range(config.download_retries + 1):
        if failures:
            time.sleep(min(config.download_backoff * 2 ** (failures - 1), LONGEST_PAUSE, max(deadline - time.monotonic(), 0)))
        try:
            return _try(config, folder, name, url, deadline)
        except _Broken as error:
            last = error
    raise DownloadFailed(f"{last} ({config.download_retries + 1} tries); try again later") from last


def _done(folder: Path, url: str) -> Download | None:
    """What was fetched before, if it still stands."""
    path = folder / "download.json"
    if not path.is_file():
        return None
    done = Download(**json.loads(path.read_text()), folder=folder)
    whole = done.url == url and done.path.is_file() and done.path.stat().st_size == done.bytes
    return done if whole and hash_file(done.path) == done.sha else None


def _try(config: TalksConfig, folder: Path, name: str, url: str, deadline: float) -> Download:
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import YoutubeDLError

    watch = _Watch(config, url, deadline)
    options = {
        "logger": watch, "progress_hooks": [watch.hook], "noprogress": True,
        "color": {"stdout": "no_color", "stderr": "no_color"},
        "socket_timeout": config.download_timeout,
        "ratelimit": config.download_rate_mb and config.download_rate_mb * 1e6,
        "retries": 0, "extractor_retries": 0, "fragment_retries": 3,  # whole tries are counted in `fetch`
        "skip_unavailable_fragments": False,  # a talk with holes is none
        "format": "bv*+ba/b",  # pictures and sound apart are joined by `join_tracks`
        "format_sort": [f"res:{config.download_height}"],
        "noplaylist": True, "extract_flat": "in_playlist",
        "cachedir": False, "fixup": "never", "updatetime": False, "enable_file_urls": False,
    }  # fmt: skip
    try:
        with YoutubeDL(options) as downloader:
            info = downloader.extract_info(url, download=False)
            _check(config, info, url)
            server = _validate(downloader, folder, info)
            size = int(server.get("length") or info.get("filesize") or 0)
            watch.check_size(size)
            free = shutil.disk_usage(folder).free
            if size > free:
                raise DownloadFailed(f"{url}: expected room for {size / 1e6:.0f} MB, got {free / 1e6:.0f} MB; free some space in {folder}")
            parts = info.pop("requested_formats", None) or [info]
            files = [_part(folder, name, part, alone=len(parts) == 1) for part in parts]
            for file, part in zip(files, parts, strict=True):
                if not downloader.dl(str(file), {**info, **part})[0]:
                    raise DownloadFailed(f"{url}: expected a video, got {watch.last or 'nothing'}; look at the page")
    except (YoutubeDLError, OSError) as error:
        raise _failure(error, url, folder) from error
    path = files[0] if len(files) == 1 else _joined(files, folder / f"{name}.mkv", url)
    length = int(server.get("length") or 0)  # of the one file of a direct link
    if length and path.stat().st_size != length:
        got = path.stat().st_size
        path.unlink()
        raise _Broken(f"{url}: expected {length} bytes, got {got}")
    said = {key: str(info.get(key) or "") for key in ("title", "license", "webpage_url")}
    done = Download(
        url, path.name, path.stat().st_size, hash_file(path), said["title"], said["license"], said["webpage_url"], server, folder
    )
    write_json(folder / "download.json", {k: v for k, v in asdict(done).items() if k != "folder"})
    for other in folder.iterdir():
        if other.name not in (path.name, "download.json"):
            other.unlink()
    return done


def _part(folder: Path, name: str, part: dict[str, Any], alone: bool) -> Path:
    kinds = [part.get("ext"), *([] if alone else [part.get("format_id")])]
    words = [re.sub("[^A-Za-z0-9]+", "", str(kind or ""))[:16] or "video" for kind in kinds]
    return folder / ".".join([name, *words[1:], words[0]])


def _joined(files: list[Path], target: Path, url: str) -> Path:
    try:
        join_tracks(files, target)
    except MediaError as error:
        for file in files:
            file.unlink(missing_ok=True)
        raise DownloadFailed(f"{url}: expected pictures and sound that can be joined, got {error}; look at the page") from error
    return target


class _Watch:
    """Takes what yt-dlp says while it works, and stops what grows too large or lasts too long."""

    def __init__(self, config: TalksConfig, url: str, deadline: float):
        self.config, self.url, self.deadline = config, url, deadline
        self.last = ""  # the last thing said that may be a reason

    def debug(self, text: str) -> None:
        pass

    info = debug

    def warning(self, text: str) -> None:
        self.last = _line(text)

    error = warning

    def hook(self, state: dict[str, Any]) -> None:
        self.check_size(max(state.get("total_bytes") or 0, state.get("downloaded_bytes") or 0))
        if time.monotonic() > self.deadline:
            limit = f"{self.config.download_hours:g} hours (talks.download_hours)"
            raise DownloadFailed(f"{self.url}: expected a download within {limit}, it takes longer; raise the limit")

    def check_size(self, size: int) -> None:
        if size > self.config.download_max_mb * 1e6:
            limit = f"{self.config.download_max_mb:g} MB (talks.download_max_mb)"
            raise DownloadFailed(f"{self.url}: expected at most {limit}, got {size / 1e6:.1f} MB; raise the limit or take a smaller copy")


def _check(config: TalksConfig, info: dict[str, Any] | None, url: str) -> None:
    """Errors: DownloadFailed for anything but one finished video from the web."""
    if not info:
        raise DownloadFailed(f"{url}: expected a video, the page has none; look at it")
    if info.get("_type", "video") != "video":
        count = len(list(info.get("entries") or []))
        raise DownloadFailed(f"{url}: expected one video, got a list of {count}; give each a row of its own")
    if info.get("is_live") or info.get("live_status") == "is_upcoming":
        raise DownloadFailed(f"{url}: expected a finished video, got a live stream; try again when it is over")
    sources = [f.get("url") or "" for f in info.get("requested_formats") or [info]]
    foreign = [s for s in sources if not s.lower().startswith(("http://", "https://"))]
    if foreign:
        raise DownloadFailed(f"{url}: expected a video over http or https, got {foreign[0]!r:.80}; take another page")


def _validate(downloader: Any, folder: Path, info: dict[str, Any]) -> dict[str, str]:
    """What the server says of the file; parts of another file, or of an unknown one, are thrown away."""
    from yt_dlp.networking import HEADRequest
    from yt_dlp.utils import YoutubeDLError

    server = {"format": str(info.get("format_id") or "")}
    if info.get("direct"):
        try:
            with downloader.urlopen(HEADRequest(info["url"], headers={"Accept-Encoding": "identity"})) as answer:
                said = {"etag": answer.get_header("ETag"), "last-modified": answer.get_header("Last-Modified")}
                server |= {k: v for k, v in {**said, "length": answer.get_header("Content-Length")}.items() if v}
        except YoutubeDLError:
            pass  # some servers answer only GET
    begun = folder / "begun.json"
    if not begun.is_file() or json.loads(begun.read_text()) != server:
        for part in folder.iterdir():
            part.unlink()
        write_json(begun, server)
    return server


def _failure(error: Exception, url: str, folder: Path) -> DownloadFailed:
    """The reason in one line, and whether a further try makes sense."""
    from yt_dlp.networking.exceptions import CertificateVerifyError, HTTPError, TransportError
    from yt_dlp.utils import ContentTooShortError, UnsupportedError

    chain = _causes(error)
    for cause in chain:
        if isinstance(cause, DownloadFailed):
            return cause
        if isinstance(cause, OSError) and cause.errno in NO_ROOM:
            for part in folder.glob("*.part"):
                part.unlink()
            return DownloadFailed(f"{url}: expected room to write, got {cause.strerror!r}; free some space in {folder}")
        if isinstance(cause, HTTPError):
            kind = _Broken if cause.status in MAY_PASS or cause.status >= 500 else DownloadFailed
            return kind(f"{url}: expected a video, the server answered {cause.status} {cause.reason}")
        if isinstance(cause, CertificateVerifyError):
            return DownloadFailed(f"{url}: expected a server with a valid certificate, got {_line(str(cause))}")
        if isinstance(cause, ContentTooShortError):
            return _Broken(f"{url}: expected {cause.expected} bytes, the connection ended after {cause.downloaded}")
        if isinstance(cause, TransportError):
            return _Broken(f"{url}: expected a connection that lasts, got {_line(str(cause))}")
        if isinstance(cause, UnsupportedError):
            return DownloadFailed(f"{url}: expected a video, got a page in which yt-dlp finds none; give the URL of the video itself")
    text = _line(str(error))
    if text.startswith(BROKE_OFF):
        return _Broken(f"{url}: expected a connection that lasts, got {text.removeprefix(BROKE_OFF).strip()}")
    return DownloadFailed(f"{url}: expected a video, got {text}; look at the page")


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what led to it, as yt-dlp keeps it."""
    found: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            waiting += [*(getattr(one, "exc_info", None) or ()), getattr(one, "cause", None), one.__cause__, one.__context__]
    return found


def _line(text: str) -> str:
    """One line without yt-dlp's own advice."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).removeprefix("ERROR: ")
    return " ".join(re.split(r"; please report|\(caused by|Use --", text)[0].split()).rstrip(" .;")[:300]
