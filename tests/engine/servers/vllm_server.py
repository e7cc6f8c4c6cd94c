"""A rollout server in a thread: vLLM's protocol over real HTTP, before trueup's own sampler and weights on disk."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from safetensors.torch import load_file

from trueup.config import Model, Sampling
from trueup.engine.generate import generate
from trueup.engine.score import sequence_logps
from trueup.models.policy import open_policy
from trueup.types import StopReason

COMPUTES = threading.Lock()
"""Held by the server that computes: they share this process's cores."""


class VllmServer:
    """Serves a model until the ``with`` block ends.

    Args:
        model: Folder of the weights that it starts with.
        late: Reloads by which it is behind: with 1 it loads what it was told to load the time before.
        tamper: (path, answer) -> (status, what is sent instead: an object, or bytes).
    """

    def __init__(self, model, *, late=0, tamper=None, port=0):
        self.late, self.tamper = late, tamper or (lambda path, answer: (200, answer))
        self.asked: list[tuple[str, dict, dict]] = []
        self.told: list[Path] = [Path(model)] * late
        self.loaded = [str(model)]
        self.first = Path(model)
        self.policy = open_policy(Model(name=str(model), kernels="plain"))
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer({})

            def do_POST(self):
                self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))

            def answer(self, body):
                with COMPUTES:
                    outer.asked.append((self.path, body, dict(self.headers)))
                    plain = outer.reply(self.path, body)
                    status, sent = (404, {"error": "Not Found"}) if plain is None else outer.tamper(self.path, plain)
                data = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *words):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self.http = Server(("127.0.0.1", port), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.http.server_close()

    def restart(self):
        """Come up with the first weights again."""
        self.load(self.first)

    def load(self, folder):
        """Take over weights; opening a model in a thread would change what transformers keeps for the process."""
        missing, unexpected = self.policy.model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        assert not unexpected
        assert set(missing) <= {"lm_head.weight"}  # tied

    def reply(self, path, body):
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": "tiny", "object": "model"}]}
        if path == "/reset_prefix_cache":
            return {}
        if path == "/collective_rpc":
            assert body["method"] == "reload_weights"
            self.told.append(Path(body["kwargs"]["weights_path"]))
            folder = self.told[-1 - self.late]
            if folder.exists():
                self.load(folder)
                self.loaded.append(folder.name)
            return {"results": [None]}
        if path == "/v1/completions":
            return self.score(body) if "prompt_logprobs" in body else self.complete(body)
        return None

    def complete(self, body):
        ids = tuple(body["prompt"])
        assert body["ignore_eos"]
        assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)
        sampling = Sampling(max_new_tokens=body["max_tokens"], temperature=body["temperature"])
        (drawn,) = generate(self.policy, [ids], sampling, stop_ids=body["stop_token_ids"], seed=body["seed"])
        ended = drawn.stop is StopReason.EOS
        return {
            "choices": [
                {
                    "index": 0,
                    "text": "",
                    "token_ids": list(drawn.ids),
                    "prompt_token_ids": list(ids),
                    "finish_reason": "stop" if ended else "length",
                    "stop_reason": drawn.ids[-1] if ended else None,
                    "logprobs": {"token_logprobs": drawn.logps.tolist(), "tokens": [""] * len(drawn.ids)},
                }
            ]
        }

    def score(self, body):
        ids = tuple(body["prompt"])
        (logps,) = sequence_logps(self.policy, [(ids[:1], ids[1:])])
        entries = [None, *({str(t): {"logprob": float(p), "rank": 1}} for t, p in zip(ids[1:], logps, strict=True))]
        choice = {"index": 0, "text": "", "token_ids": [0], "prompt_token_ids": list(ids), "finish_reason": "length"}
        return {"choices": [{**choice, "prompt_logprobs": entries, "logprobs": None}]}
