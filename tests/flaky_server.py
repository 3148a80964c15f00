"""A loopback HTTP server that passes requests on, and does some of them wrong on purpose."""

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REFUSAL = b"<Error><Code>InvalidAccessKeyId</Code><Message>unknown key</Message></Error>"


@dataclass
class Flaky:
    """What to do wrong, and what was asked.

    Args:
        behind: host and port of the honest server.
        faults: taken in order by the requests that match, one each: "busy" (503), "reset" before
            or "lost" after it was done, "half" an answer, "refused" (403).
        method, part: only requests like this take a fault.
        seen: method and path of every request, in order.
    """

    behind: tuple[str, int]
    faults: list[str] = field(default_factory=list)
    method: str = ""
    part: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def next_fault(self, method: str, path: str) -> str:
        self.seen.append((method, path))
        if self.method in ("", method) and self.part in path and self.faults:
            return self.faults.pop(0)
        return ""


@contextmanager
def flaky_server(behind: tuple[str, int]) -> Iterator[Flaky]:
    """Run such a server before the one at `behind`."""
    flaky = Flaky(behind)

    class Handler(BaseHTTPRequestHandler):
        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = flaky.next_fault(self.command, self.path)
            self.close_connection = True
            if fault == "reset":
                self._reset()
            elif fault == "busy":
                self._answer(503, {}, b"", 0)
            elif fault == "refused":
                self._answer(403, {}, REFUSAL, len(REFUSAL))
            else:
                status, headers, content = self._ask(body)
                if fault == "lost":
                    self._reset()
                else:
                    sent = content[: len(content) // 2] if fault == "half" else content
                    self._answer(status, headers, sent, len(content))

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_any  # noqa: N815

        def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(*flaky.behind, timeout=10)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            headers = {name.title(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()

        def _answer(self, status: int, headers: dict[str, str], sent: bytes, promised: int) -> None:
            self.send_response(status)
            headers = {"Content-Length": str(promised)} | headers | {"Connection": "close"}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        def _reset(self) -> None:
            option = struct.pack("ii", 1, 0)  # closing sends a reset, not an end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
            self.connection.close()

        def log_message(self, *_: object) -> None:
            pass

        def finish(self) -> None:
            if self.connection.fileno() >= 0:
                super().finish()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    flaky.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield flaky
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
