"""Google Cloud Storage as far as gcsfs, TensorStore and Orbax ask for it here: a dictionary.

The JSON API over HTTP on this machine: objects with generations and preconditions, listings by
prefix and delimiter, simple, multipart and resumable uploads, ranges, moves. As in the real one
there are no directories, an object appears at once and whole, and nothing is ever appended to.
"""

import contextlib
import http.server
import json
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

BUCKET = "bucket"
_OBJECT = re.compile(r"/(?:download/)?storage/v1/b/([^/]+)/o/(.+)")
_COPY = re.compile(r"/storage/v1/b/([^/]+)/o/(.+)/(rewriteTo|copyTo|moveTo)/(?:b/([^/]+)/)?o/(.+)")


class Server(http.server.ThreadingHTTPServer):
    """Holds {name: bytes} of one bucket; names that match `refused` cannot be written."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.generations: dict[str, int] = {}
        self.lock = threading.RLock()
        self.uploads: dict[str, tuple[str, bytearray]] = {}
        self.refused = ""
        self._clock = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may leave before it has read the answer: gcsfs asks twice, and takes one."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def put(self, name: str, content: bytes) -> dict[str, Any]:
        with self.lock:
            self._clock += 1
            self.objects[name], self.generations[name] = content, self._clock
            return self.about(name)

    def about(self, name: str) -> dict[str, Any]:
        content, generation = self.objects[name], self.generations[name]
        return {
            "kind": "storage#object",
            "id": f"{BUCKET}/{name}/{generation}",
            "bucket": BUCKET,
            "name": name,
            "size": str(len(content)),
            "generation": str(generation),
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
            "timeCreated": "2025-01-01T00:00:00.000Z",
            "updated": "2025-01-01T00:00:00.000Z",
        }

    def names(self, under: str = "") -> list[str]:
        with self.lock:
            return sorted(name for name in self.objects if name.startswith(under))


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: the second one would wait for 40 ms

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        path, query = self._asked()
        if path == f"/storage/v1/b/{BUCKET}":
            return self._json({"kind": "storage#bucket", "name": BUCKET, "id": BUCKET})
        if path == f"/storage/v1/b/{BUCKET}/o":
            return self._json(self._listing(query))
        if not (found := _OBJECT.fullmatch(path)) or found[1] != BUCKET:
            return self._fail(404)
        name = unquote(found[2])
        with self.server.lock:
            if (failed := self._precondition(name, query)) or name not in self.server.objects:
                return self._fail(failed or 404)
            about, content = self.server.about(name), self.server.objects[name]
        if query.get("alt") != "media":
            return self._json(about)
        headers = {"x-goog-generation": about["generation"], "etag": about["generation"]}
        if asked := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first = int(asked[1]) if asked[1] else max(len(content) - int(asked[2]), 0)
            last = int(asked[2]) if asked[1] and asked[2] else len(content) - 1
            if first >= len(content):
                return self._fail(416)
            part = content[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
            return self._answer(206, part, headers)
        return self._answer(200, content, headers)

    def do_POST(self) -> None:
        path, query = self._asked()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if copied := _COPY.fullmatch(path):
            return self._copy(unquote(copied[1]), unquote(copied[2]), copied[3], unquote(copied[5]))
        if path == "/resumable":
            return self._resume(query["id"], body)
        if path != f"/upload/storage/v1/b/{BUCKET}/o":
            return self._fail(404)
        name = query.get("name", "")
        if query["uploadType"] == "multipart":
            boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])
            assert boundary is not None
            _, first, second = body.split(b"--" + boundary[1].encode())[:3]
            name = json.loads(_content(first))["name"]
            body = _content(second)
        if query["uploadType"] == "resumable":
            name = name or json.loads(body)["name"]
            key = str(len(self.server.uploads))
            self.server.uploads[key] = (name, bytearray())
            return self._answer(200, b"{}", {"Location": f"{self.server.url}/resumable?id={key}"})
        with self.server.lock:
            if failed := self._precondition(name, query) or self._refused(name):
                return self._fail(failed)
            return self._json(self.server.put(name, body))

    def do_PUT(self) -> None:
        _, query = self._asked()
        self._resume(query["id"], self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_DELETE(self) -> None:
        path, query = self._asked()
        found = _OBJECT.fullmatch(path)
        name = unquote(found[2]) if found else ""
        with self.server.lock:
            if (failed := self._precondition(name, query)) or name not in self.server.objects:
                return self._fail(failed or 404)
            del self.server.objects[name]
        self._answer(204, b"", {})

    def _resume(self, key: str, body: bytes) -> None:
        name, content = self.server.uploads[key]
        content.extend(body)
        if self.headers.get("Content-Range", "").endswith("/*"):
            return self._answer(308, b"", {"Range": f"bytes=0-{len(content) - 1}"})
        if failed := self._refused(name):
            return self._fail(failed)
        self._json(self.server.put(name, bytes(content)))

    def _copy(self, bucket: str, source: str, how: str, target: str) -> None:
        with self.server.lock:
            if bucket != BUCKET or source not in self.server.objects:
                return self._fail(404)
            about = self.server.put(target, self.server.objects[source])
            if how == "moveTo":
                del self.server.objects[source]
        if how == "rewriteTo":
            about = {"kind": "storage#rewriteResponse", "done": True, "resource": about}
        self._json(about)

    def _listing(self, query: dict[str, str]) -> dict[str, Any]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        first, end = query.get("startOffset", ""), query.get("endOffset", "\U0010ffff")
        items, folders = [], set()
        with self.server.lock:
            for name in self.server.names(prefix):
                rest = name[len(prefix) :]
                if delimiter and delimiter in rest:
                    folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                elif first <= name < end:
                    items.append(self.server.about(name))
        limit = int(query.get("maxResults", 1000))
        return {"kind": "storage#objects", "items": items[:limit], "prefixes": sorted(folders)}

    def _precondition(self, name: str, query: dict[str, str]) -> int:
        has = self.server.generations[name] if name in self.server.objects else 0
        if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != has:
            return 412
        if "ifGenerationNotMatch" in query and int(query["ifGenerationNotMatch"]) == has:
            return 304
        return 0

    def _refused(self, name: str) -> int:
        return 403 if self.server.refused and re.search(self.server.refused, name) else 0

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        path = parts.path.replace("//", "/")
        return path, {key: value[0] for key, value in parse_qs(parts.query).items()}

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fail(self, code: int) -> None:
        body = json.dumps({"error": {"code": code, "message": f"error {code}"}}).encode()
        if code == 304:
            body = b""
        self._answer(code, body, {"Content-Type": "application/json"})

    def _answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _content(part: bytes) -> bytes:
    """What follows the headers of a part, less the line break before the next boundary."""
    head = re.match(rb"\r?\n(?:[^\r\n]+\r?\n)*\r?\n", part)
    assert head is not None
    return re.sub(rb"\r?\n\Z", b"", part[head.end() :])


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server that all libraries take for gs://, until the end of the context."""
    with Server() as server, pytest.MonkeyPatch.context() as environment:
        for name in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
            environment.setenv(name, server.url)
        environment.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "any")
        # What kind of bucket it is gcsfs would ask over gRPC, which is not spoken here.
        environment.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
