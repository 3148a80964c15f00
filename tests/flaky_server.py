"""A loopback HTTP server that forwards requests and deliberately fails some of them."""

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
    """Which requests fail, how, and what was requested.

    Args:
        behind: host and port of the real server.
        faults: each matching request takes the next: "busy" (503), "reset" of the connection before
            the request is done or "lost" after it, "half" an answer, "refused" (403).
        method, path_piece: only requests with this method and this in their path take a fault.
        requests: method and path of every request, in order.
    """

    behind: tuple[str, int]
    faults: list[str] = field(default_factory=list)
    method: str = ""
    path_piece: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def next_fault(self, method: str, path: str) -> str:
        self.requests.append((method, path))
        if self.method in ("", method) and self.path_piece in path and self.faults:
            return self.faults.pop(0)
        return ""


@contextmanager
def flaky_server(behind: tuple[str, int]) -> Iterator[Flaky]:
    """Run such a server in front of the server at `behind`."""
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
            option = struct.pack("ii", 1, 0)  # close with a reset instead of an orderly end
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
