"""A fake hub: serves a folder over HTTP on the loopback interface, with the faults that real ones show."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import defaultdict
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

PORTIONS = 40
PAUSE_S = 0.05
"""`slow` sends in so many portions with such a pause between them: two seconds, whatever the size."""


class Hub:
    """Serve the files of `folder`, byte ranges included, within a `with` block.

    `faults[path]` is a queue: each request for that path (relative to the folder, no leading slash) takes its first
    entry, if any, and meets that fault once:

    ========== ===========================================================
    `cut`      about half of the bytes asked for, then no connection
    `corrupt`  the right length, one byte flipped
    `html`     status 200 and a web page
    `404` ...  that status, any number, with a web page
    `slow`     two seconds
    `norange`  the whole file, status 200, whatever range was asked for
    `ok`       no fault: lets one request pass
    ========== ===========================================================

    Attributes:
        url: address of the folder, with a slash at its end.
        faults: path -> faults to come.
        requests: (path, range header or None) of every request so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).resolve()
        self.faults: defaultdict[str, list[str]] = defaultdict(list)
        self.requests: list[tuple[str, str | None]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *args: object) -> None:
        self.hub = hub
        super().__init__(*args)

    def do_GET(self) -> None:
        self.close_connection = True
        path = unquote(urlsplit(self.path).path).lstrip("/")
        asked = self.headers.get("Range")
        self.hub.requests.append((path, asked))
        fault = self.hub.faults[path].pop(0) if self.hub.faults[path] else ""
        file = (self.hub.folder / path).resolve()
        if fault.isdigit() or not (file.is_file() and file.is_relative_to(self.hub.folder)):
            self._page(int(fault) if fault.isdigit() else 404)
        elif fault == "html":
            self._page(200)
        else:
            self._send(file.read_bytes(), asked if fault != "norange" else None, fault)

    def do_HEAD(self) -> None:
        """Answer huggingface_hub, which asks for commit and hash of `<repository>/resolve/<commit>/<file>` first."""
        file = self.hub.folder / unquote(urlsplit(self.path).path).lstrip("/")
        repository, _, rest = file.as_posix().partition("/resolve/")
        commit = rest.partition("/")[0]
        self.send_response(200 if file.is_file() else 404)
        if file.is_file():
            self.send_header("ETag", f'"{hashlib.sha256(file.read_bytes()).hexdigest()}"')
            self.send_header("Content-Length", str(file.stat().st_size))
        elif not Path(repository).is_dir():
            self.send_header("X-Error-Code", "RepoNotFound")
        else:
            known = Path(repository, "resolve", commit).is_dir()
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RevisionNotFound")
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, content: bytes, asked: str | None, fault: str) -> None:
        start, end, size = 0, len(content), len(content)
        if asked:
            first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", asked).groups()
            start, end = int(first), min(int(last or size) + 1, size)
            if start >= size:
                self._head(416, 0, "application/octet-stream", f"bytes */{size}")
                return
        body = bytearray(content[start:end])
        served = f"bytes {start}-{end - 1}/{size}" if asked else None
        self._head(206 if asked else 200, len(body), "application/octet-stream", served)
        if fault == "corrupt" and body:
            body[len(body) // 2] ^= 1
        if fault == "cut":
            body = body[: len(body) // 2]
        step = len(body) // PORTIONS + 1 if fault == "slow" else len(body) or 1
        try:
            for place in range(0, len(body), step):
                self.wfile.write(body[place : place + step])
                if fault == "slow":
                    time.sleep(PAUSE_S)
        except ConnectionError:  # the client was killed, as was meant
            pass

    def _page(self, status: int) -> None:
        page = b"<!-- portal --><!DOCTYPE html>\n<html><body>Please log in.</body></html>\n"
        self._head(status, len(page), "text/html; charset=utf-8", None)
        self.wfile.write(page)

    def _head(self, status: int, length: int, kind: str, served: str | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        if served:
            self.send_header("Content-Range", served)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
