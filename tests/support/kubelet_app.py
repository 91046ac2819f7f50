"""A container for the kubelet's tests: standard library only, so that it starts in a tenth of a second.

Files in its working directory steer it: `unready` fails /ready, `sick` fails /health, `stubborn` ignores SIGTERM.
It writes what happens to its standard output.
"""

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        bad = (self.path == "/ready" and Path("unready").exists()) or (self.path == "/health" and Path("sick").exists())
        if self.path == "/drain":
            write_event("preStop")
        text = " ".join(os.environ.get(name, "-") for name in ("IMAGE", "POD_NAME", "NODE", "GREETING"))
        self.send_response(503 if bad else 200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def write_event(what: str) -> None:
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


def main() -> None:
    server = ThreadingHTTPServer((os.environ["POD_IP"], int(os.environ["PORT"])), Handler)

    def on_term(*_: object) -> None:
        write_event("SIGTERM")
        if not Path("stubborn").exists():
            threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, on_term)
    write_event("serving")
    server.serve_forever()
    write_event("bye")


main()
