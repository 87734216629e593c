"""An HTTP server that answers with (status, body) and keeps what it was asked.

    web = Web(t)        # .url .status .body .asked: [(method, path, headers, body)]
    web.go.clear()      # answers wait until web.go.set()
"""
import contextlib
import http.server
import threading


class Web:

    def __init__(self, t, status=200, body=""):
        self.status, self.body, self.asked = status, body, []
        self.go = threading.Event()  # cleared: answers wait
        self.go.set()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                web.asked.append((self.command, self.path, dict(self.headers), self.rfile.read(length).decode()))
                web.go.wait()
                body = web.body.encode()
                with contextlib.suppress(OSError):  # who does not wait any more
                    self.send_response(web.status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
            do_GET = do_POST = answer

            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        t.defer(self.server.shutdown)
        t.defer(self.go.set)

    def paths(self):
        return [f"{method} {path}" for method, path, _, _ in self.asked]
