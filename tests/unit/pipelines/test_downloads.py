"""Talks by URL against a real server on this machine: resumed, retried, bounded, never fetched twice."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from urllib.parse import unquote

import av
import numpy as np
import pytest

from configs.schema import Config
from pipelines import ingest, media
from pipelines.downloads import DownloadFailed, fetch, folder_of
from pipelines.store import Store, hash_file

QUICK = {"download_retries": 2, "download_backoff": 0.01, "download_timeout": 0.4, "include_samples": False}


@dataclass
class Site:
    """What the server has, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    kind: str = "video/mp4"
    etag: str = '"one"'
    ranges: bool = True
    lengths: bool = True
    head: bool = True
    states: list[int] = field(default_factory=list)  # answered first, one a GET
    cuts: list[int] = field(default_factory=list)  # bytes after which the connection ends, one a GET of the data
    stalls: list[int] = field(default_factory=list)  # bytes after which nothing more comes
    redirect: str = ""
    drip: float = 0.0  # seconds between KiB
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    sent: int = 0
    address: str = ""

    def count(self) -> Counter[str]:
        return Counter(method for method, _, _ in self.asked)


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.answer(body=False) if site.head else self.send_error(405)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body: bool):
            asked = self.headers.get("Range", "")
            site.asked.append((self.command, self.path, asked))
            if site.redirect and self.path != "/moved.mp4":
                self.send_response(302)
                self.send_header("Location", site.redirect)
                self.end_headers()
                return
            if body and site.states:
                self.send_error(site.states.pop(0))
                return
            data = site.files.get(unquote(self.path.partition("?")[0]))
            if data is None:
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked and site.ranges else 0
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if asked and site.ranges else 200)
            self.send_header("Content-Type", site.kind)
            if site.etag:
                self.send_header("ETag", site.etag)
            if site.lengths:
                self.send_header("Content-Length", str(len(data) - start))
            if asked and site.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if body:
                self.pour(data[start:])

        def pour(self, data: bytes):
            # yt-dlp looks at each address before it fetches it, and closes that connection after a glance
            first = sum(method == "GET" for method, _, _ in site.asked) % 2 == 1
            end = len(data)
            stall = False
            if not first and site.cuts:
                end = site.cuts.pop(0)
            elif not first and site.stalls:
                end, stall = site.stalls.pop(0), True
            with contextlib.suppress(OSError):
                for at in range(0, end, 1024):
                    piece = data[at : min(at + 1024, end)]
                    self.wfile.write(piece)
                    site.sent += 0 if first else len(piece)
                    time.sleep(site.drip)
                self.wfile.flush()
                if stall:
                    time.sleep(1.5)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def talk(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("talk") / "a.mp4"
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (40, 64, 96, 3), np.uint8)
    media.write_video(path, pictures, Fraction(25), rng.standard_normal(25600).astype(np.float32) * 0.1)
    return path.read_bytes()


@pytest.fixture
def config(tmp_path) -> Config:
    return Config.model_validate({"workspace": str(tmp_path / "a work$HOME %(id)s space"), "talks": QUICK})


@pytest.fixture
def store(config) -> Store:
    store = Store(config)
    store.inbox.mkdir(parents=True)
    return store


def get(config, store, url, name="t", **settings):
    return fetch(config.talks.model_copy(update=settings), folder_of(store, name), name, url)


def test_a_video_is_fetched_once_and_recorded(config, store, site, talk):
    site.files["/talk one.mp4"] = talk
    (store.inbox / "talks.csv").write_text(f"url,speaker\n{site.address}/talk%20one.mp4?v=2,Ada\n")
    (name,) = ingest.discover(config, store)
    assert name.startswith("talk_one_v_2-")
    record = ingest.ingest_talk(config, store, name)
    assert record.status == "ok", record.reason
    assert (record.facts["speaker"], record.facts["file"]) == ("Ada", f"{name}.mp4")
    assert record.facts["url"].endswith("/talk%20one.mp4?v=2")
    video = ingest.video_path(store, record.facts)
    assert video.read_bytes() == talk
    kept = json.loads((video.parent / "download.json").read_text())
    assert kept["sha"] == record.facts["sha"] == hash_file(video)
    assert (kept["bytes"], kept["server"]["etag"], kept["server"]["length"]) == (len(talk), '"one"', str(len(talk)))
    asked = len(site.asked)
    assert ingest.ingest_talk(config, store, name) == record
    assert len(site.asked) == asked
    assert sorted(p.name for p in video.parent.iterdir()) == ["download.json", f"{name}.mp4"]
    video.write_bytes(b"broken")  # what was spoilt on the disk is fetched anew
    assert ingest.ingest_talk(config, store, name) == record
    assert video.read_bytes() == talk


def test_a_broken_connection_is_resumed_where_it_ended(config, store, site, talk):
    site.files["/a.mp4"] = talk
    site.cuts = [len(talk) // 3, len(talk) // 3]
    assert get(config, store, f"{site.address}/a.mp4").path.read_bytes() == talk
    parts = [asked for _, _, asked in site.asked if asked.startswith("bytes=") and asked != "bytes=0-"]
    assert len(parts) == 2
    assert site.sent < 1.5 * len(talk)  # what was read but not yet written is asked for again


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(config, store, site, talk):
    site.files["/a.mp4"] = talk
    site.cuts = [2000]
    with pytest.raises(DownloadFailed, match=r"a connection that lasts, got .* more expected \(1 tries\); try again later"):
        get(config, store, f"{site.address}/a.mp4", download_retries=0)
    (part,) = folder_of(store, "t").glob("*.part")
    assert 1000 < part.stat().st_size <= 2000
    assert get(config, store, f"{site.address}/a.mp4").path.read_bytes() == talk
    assert site.sent < len(talk) + 2000


@pytest.mark.parametrize("change", ["etag", "length", "no range"])
def test_parts_of_another_version_are_not_continued(config, store, site, talk, change):
    site.files["/a.mp4"] = bytes(len(talk) + (7 if change == "length" else 0))
    site.cuts = [2000]
    with pytest.raises(DownloadFailed):
        get(config, store, f"{site.address}/a.mp4", download_retries=0)
    site.files["/a.mp4"] = talk
    site.etag = '"two"' if change == "etag" else site.etag
    site.ranges = change != "no range"
    assert get(config, store, f"{site.address}/a.mp4").path.read_bytes() == talk


def test_a_silent_server_is_given_up_and_tried_again(config, store, site, talk):
    site.files["/a.mp4"] = talk
    site.stalls = [3000]
    start = time.perf_counter()
    assert get(config, store, f"{site.address}/a.mp4").path.read_bytes() == talk
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("states", [[503], [429, 500], [408]])
def test_passing_faults_of_the_server_pass(config, store, site, talk, states):
    site.files["/a.mp4"] = talk
    site.states = list(states)
    assert get(config, store, f"{site.address}/a.mp4").path.read_bytes() == talk


@pytest.mark.parametrize(
    ("name", "value"),
    [("kind", "application/octet-stream"), ("kind", "text/plain"), ("kind", "video/x-nonsense"), ("head", False), ("etag", ""),
     ("lengths", False), ("redirect", "/moved.mp4")],
)  # fmt: skip
def test_odd_servers_are_understood(config, store, site, talk, name, value):
    site.files["/a.mp4"] = site.files["/moved.mp4"] = talk
    setattr(site, name, value)
    assert get(config, store, f"{site.address}/a.mp4").path.read_bytes() == talk


@pytest.mark.parametrize(
    ("setting", "settings", "reason", "tries"),
    [
        ({}, {}, "the server answered 404", 1),
        ({"states": [403]}, {}, "the server answered 403", 1),
        ({"states": [503] * 9}, {}, "answered 503.*3 tries.*try again later", 3),
        ({"files": {"/a.mp4": b"<html><body>Sign in</body></html>"}, "kind": "text/html"}, {}, "finds none|no video", 1),
        ({"files": {"/a.mp4": bytes(3_000_000)}}, {"download_max_mb": 1.0}, r"at most 1 MB .*got 3\.0 MB", 1),
        ({"files": {"/a.mp4": bytes(3_000_000)}, "lengths": False, "head": False}, {"download_max_mb": 1.0}, "at most 1 MB", 1),
        ({"files": {"/a.mp4": bytes(300_000)}, "drip": 0.002}, {"download_hours": 0.3 / 3600}, "hours.*takes longer", 1),
        ({"redirect": "file:///etc/passwd"}, {}, "expected", 1),
        ({"redirect": "ftp://127.0.0.1:9/a.mp4"}, {}, "expected", 1),
    ],
    ids=["404", "403", "503 for ever", "a page", "too large", "too large, untold", "drips", "redirect to a file", "redirect to ftp"],
)
def test_what_cannot_be_fetched_is_one_line(config, store, site, setting, settings, reason, tries):
    for name, value in setting.items():
        setattr(site, name, value)
    with pytest.raises(DownloadFailed, match=reason) as caught:
        get(config, store, f"{site.address}/a.mp4", **settings)
    assert "\n" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    gets = sum(1 for method, _, _ in site.asked if method == "GET")
    assert gets <= 2 * tries
    assert not [p for p in folder_of(store, "t").iterdir() if p.suffix == ".mp4"]


def test_a_refused_connection_is_one_line_after_all_tries(config, store, site):
    with pytest.raises(DownloadFailed, match="3 tries") as caught:
        get(config, store, "http://127.0.0.1:9/a.mp4")
    assert "\n" not in str(caught.value)


def test_a_download_that_failed_is_tried_at_the_next_run(config, store, site, talk):
    (store.inbox / "talks.jsonl").write_text(json.dumps({"url": f"{site.address}/a.mp4"}) + "\n")
    (name,) = ingest.discover(config, store)
    record = ingest.ingest_talk(config, store, name)
    assert (record.status, record.facts) == ("rejected", {"try_again": True})
    assert "404" in record.reason
    site.files["/a.mp4"] = talk
    assert ingest.ingest_talk(config, store, name).status == "ok"


def test_no_room_is_said_before_and_leaves_no_part(config, store, site, talk, monkeypatch):
    site.files["/a.mp4"] = talk
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(DownloadFailed, match="expected room for"):
        get(config, store, f"{site.address}/a.mp4")
    assert not list(folder_of(store, "t").glob("t*"))


def test_the_rate_is_limited(config, store, site):
    site.files["/a.mp4"] = bytes(300_000)
    start = time.perf_counter()
    get(config, store, f"{site.address}/a.mp4", download_rate_mb=0.3)
    assert time.perf_counter() - start > 0.7


DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1.6S"><Period>
<AdaptationSet mimeType="video/mp4"><Representation id="v" codecs="avc1.64000a" width="96" height="64" bandwidth="9000">
<BaseURL>pictures.mp4</BaseURL></Representation></AdaptationSet>
<AdaptationSet mimeType="audio/mp4"><Representation id="a" codecs="mp4a.40.2" bandwidth="900">
<BaseURL>sound.m4a</BaseURL></Representation></AdaptationSet></Period></MPD>"""


def test_pictures_and_sound_that_come_apart_are_joined(config, store, site, talk, tmp_path):
    whole = tmp_path / "whole.mp4"
    whole.write_bytes(talk)
    for name, kind in (("pictures.mp4", "video"), ("sound.m4a", "audio")):
        with av.open(str(whole)) as source, av.open(str(tmp_path / name), "w", format="mp4") as target:
            stream = next(s for s in source.streams if s.type == kind)
            copy = target.add_stream_from_template(stream)
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = copy
                    target.mux(packet)
        site.files[f"/{name}"] = (tmp_path / name).read_bytes()
    site.files["/talk.mpd"] = DASH.encode()
    site.kind = "application/dash+xml"
    site.cuts = [len(site.files["/pictures.mp4"]) // 2]  # the first try breaks off
    video = get(config, store, f"{site.address}/talk.mpd", download_retries=4).path
    assert video.name == "t.mkv"
    assert [p.tobytes() for p in media.frames(video)] == [p.tobytes() for p in media.frames(whole)]
    sound, expected = media.read_audio(video), media.read_audio(whole)
    np.testing.assert_allclose(sound[: len(expected)], expected, atol=1e-3)
    assert sorted(p.name for p in video.parent.iterdir()) == ["download.json", "t.mkv"]


def segment(path, height: int) -> bytes:
    """A transport stream of that height."""
    pictures = np.random.default_rng(0).integers(0, 255, (30, height // 8, height // 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    media.write_video(path.with_suffix(".mp4"), pictures, Fraction(25), np.zeros(19200, np.float32))
    with av.open(str(path.with_suffix(".mp4"))) as source, av.open(str(path), "w", format="mpegts") as target:
        copies = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(("preferred", "taken"), [(144, 144), (240, 144), (288, 288), (1080, 432)])
def test_of_several_heights_the_best_up_to_the_preferred_one_is_taken(config, store, site, tmp_path, preferred, taken):
    site.kind, lines = "application/vnd.apple.mpegurl", ["#EXTM3U"]
    for height in (288, 144, 432):
        site.files[f"/{height}.ts"] = segment(tmp_path / f"{height}.ts", height)
        site.files[f"/{height}.m3u8"] = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n%d.ts\n#EXT-X-ENDLIST\n" % height
        lines += [f'#EXT-X-STREAM-INF:BANDWIDTH={1000 * height},RESOLUTION={2 * height}x{height}', f"{height}.m3u8"]
    site.files["/talk.m3u8"] = "\n".join(lines).encode()
    video = get(config, store, f"{site.address}/talk.m3u8", download_height=preferred).path
    assert media.probe(video).height == taken
    assert len(list(media.frames(video))) == 30


PAGES = {
    "one video": (b'<html><title>A talk</title><video src="/a.mp4" type="video/mp4"></video></html>', ""),
    "two videos": (b'<html><video src="/a.mp4" type="video/mp4"></video><video src="/b.mp4" type="video/mp4"></video></html>',
                   "one video, got a list of 2; give each a row"),
    "a feed": (b'<?xml version="1.0"?><rss version="2.0"><channel><title>Talks</title><item><title>1</title><link>/a.mp4</link></item>'
               b"<item><title>2</title><link>/b.mp4</link></item></channel></rss>", "one video, got a list of 2"),
    "nothing": (b"<html><p>No talk here</p></html>", "a page in which yt-dlp finds none"),
    "a file of the disk": (b'<html><video src="file:///etc/passwd" type="video/mp4"></video></html>', "expected a video"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_gives_its_one_video_or_a_reason(config, store, site, talk, kind):
    page, reason = PAGES[kind]
    site.kind = "text/html"
    site.files |= {"/page": page, "/a.mp4": talk, "/b.mp4": talk}
    if not reason:
        done = get(config, store, f"{site.address}/page")
        assert (done.path.read_bytes(), done.file) == (talk, "t.mp4")
        return
    with pytest.raises(DownloadFailed, match=reason) as caught:
        get(config, store, f"{site.address}/page")
    assert "\n" not in str(caught.value)


def test_any_name_in_a_url_becomes_a_plain_file(config, store, site, talk):
    """Names that lead elsewhere, that shells or formats would read, that are not ASCII, and two that end alike."""
    names = ["../../up.mp4", 'it\'s "one".mp4', "%(id)s $HOME.mp4", "a\nb.mp4", "東京.mp4", "-o.mp4"]
    names += ["x/one.mp4", "y/one.mp4", "q.mp4?v=1", "q.mp4?v=2"]
    encoded = [name if "?" in name else "".join(f"%{byte:02X}" for byte in name.encode()) for name in names]
    site.files |= {f"/{unquote(name).partition('?')[0]}": talk for name in encoded}
    (store.inbox / "talks.csv").write_text("url\n" + "".join(f"{site.address}/{name}\n" for name in encoded))
    records = {name: ingest.ingest_talk(config, store, name) for name in ingest.discover(config, store)}
    assert len(records) == len(names)
    for name, record in records.items():
        assert record.status == "ok", record.reason
        assert name.isascii()
        path = ingest.video_path(store, record.facts)
        assert path.parent == folder_of(store, name)
        assert path.name == f"{name}.mp4"
    assert not (store.root / "up.mp4").exists()
