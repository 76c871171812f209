"""A stand-in for both servers: ready at once, answers one streamed chat with "Paris"."""

HTTP = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"models": {"m": "ready", "bad": "failed"}}).encode()
        self.answer("application/json", body)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert asked["stream"]
        if asked["model"] != "m":
            return self.send_error(404)
        deltas = [{"role": "assistant", "content": ""}, {"content": "Par"}, {"content": "is"}]
        events = [{"choices": [{"delta": delta}]} for delta in deltas]
        text = "".join(f"data: {json.dumps(event)}\\n\\n" for event in events)
        self.answer("text/event-stream", f": note\\n\\n{text}data: [DONE]\\n\\n".encode())

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(sys.argv[-1])), Handler).serve_forever()
"""
