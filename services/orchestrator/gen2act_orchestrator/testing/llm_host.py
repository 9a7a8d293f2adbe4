"""An OpenAI-compatible chat host in a process of its own; how it behaves is its model's name.

    python -m gen2act_orchestrator.testing.llm_host     # prints its base URL, serves until killed

It knows no language: it splits at "then". It checks requests as such hosts do, wants the key
`sk-local`, and has these models:

    good           answers with a plan
    no-json        first with a sentence, then, told so, with a plan
    off-schema     first with another field, then with a plan
    stubborn       never with a plan
    cut            with a plan that ends in the middle (its tokens ran out)
    refuses        declines, in the field that the schema mode has for it
    busy           429 with `Retry-After` at first, 400 before that, then with a plan
    broken         500, always
    silent         takes the request and says nothing
    hangs-up       closes the connection in the middle of its answer
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

KEY = "sk-local"
PATH = "/v1/chat/completions"
PAUSE_S = 0.2
MODELS = {
    *("good", "no-json", "off-schema", "stubborn", "cut", "refuses"),
    *("busy", "broken", "silent", "hangs-up"),
}


class LlmHost(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30.0  # [s]
    welcome_from_s: ClassVar[dict[str, float]] = {}  # instruction -> when it may come again
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        wrong = self._what_is_wrong(body)
        if wrong is not None:
            self._send(*wrong)
            return
        instruction = next(m["content"] for m in body["messages"] if m["role"] == "user")
        corrected = any(m["role"] == "assistant" for m in body["messages"])
        plan = json.dumps({"steps": [part.strip() for part in instruction.split(" then ")]})
        match body["model"]:
            case "good":
                self._answer(plan)
            case "no-json":
                self._answer(plan if corrected else "Sure! First I would open it.")
            case "off-schema":
                self._answer(plan if corrected else json.dumps({"plan": ["open the drawer"]}))
            case "stubborn":
                self._answer("[]")
            case "cut":
                self._answer(plan[: len(plan) // 2], finish_reason="length")
            case "refuses":
                self._answer(None, refusal="I cannot help with that.")
            case "busy":
                now = time.monotonic()
                with self.lock:
                    first = instruction not in self.welcome_from_s
                    welcome_s = self.welcome_from_s.setdefault(instruction, now + PAUSE_S)
                if first:
                    self._send(429, _error("rate_limit_exceeded"), {"Retry-After": str(PAUSE_S)})
                elif now < welcome_s:
                    self._send(400, _error("asked again too early"))
                else:
                    self._answer(plan)
            case "broken":
                self._send(500, _error("server_error"))
            case "silent":
                self.rfile.read(1)  # returns when the client has left
            case "hangs-up":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choices"')
                self.close_connection = True

    def _what_is_wrong(self, body: Any) -> tuple[int, dict[str, Any]] | None:
        if self.path != PATH:
            return 404, _error("not_found")
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            given = self.headers.get("Authorization", "")
            return 401, _error(f"Incorrect API key provided: {given}")
        if body.get("model") not in MODELS:
            return 404, _error("model_not_found")
        form = body.get("response_format", {})
        schema = form.get("json_schema", {}).get("schema", {})
        strict = form.get("json_schema", {}).get("strict") is True
        closed = schema.get("additionalProperties") is False
        required = set(schema.get("required", ())) == set(schema.get("properties", {"": 0}))
        if form.get("type") != "json_schema" or not (strict and closed and required):
            return 400, _error("invalid response_format")
        return None

    def _answer(
        self, content: str | None, *, refusal: str | None = None, finish_reason: str = "stop"
    ) -> None:
        message = {"role": "assistant", "content": content, "refusal": refusal}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        self._send(200, {"object": "chat.completion", "choices": [choice]})

    def _send(
        self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "error"}}


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), LlmHost)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
