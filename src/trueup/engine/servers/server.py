"""One rollout server of vLLM's protocol: completions, log-probs of texts, new weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch

from trueup.config import Sampling
from trueup.data.batch import Ids
from trueup.engine.endpoint import Endpoint
from trueup.engine.generate import Generation
from trueup.engine.servers.completions import (
    completion_request,
    read_completion,
    read_prompt_logps,
    scoring_request,
)
from trueup.engine.servers.settings import ServerRollouts
from trueup.errors import RunError

KEYS = ("TRUEUP_ROLLOUT_KEY", "VLLM_API_KEY")


class RolloutServer:
    """A server and what is known of it.

    ``version`` is the version of the policy that it held when it was last looked at, None while that is not known;
    ``distance`` is how far its log-probs were from the trainer's own of that version when it had loaded it.

    Args:
        address: Without a path.
        settings: How it is asked.
        vocabulary: Tokens that the policy knows.
        wait: Called with the seconds to wait before another attempt.
    """

    def __init__(
        self, address: str, settings: ServerRollouts, vocabulary: int, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self.address = address
        self.vocabulary = vocabulary
        self.version: int | None = None
        self.distance = 0.0
        self.model: str | None = None
        self.endpoint = Endpoint(
            address,
            name=address,
            keys=KEYS,
            timeout=settings.timeout,
            attempts=settings.attempts,
            wait=wait,
            not_found="take a server of vLLM's protocol; vLLM reloads weights only when it is started with"
            " VLLM_SERVER_DEV_MODE=1",
        )

    def connect(self, attempts: int | None = None) -> None:
        """Ask for the name under which it has its model.

        Raises:
            RunError: It has none, or does not answer.
        """
        reply = self.endpoint.get("/v1/models", attempts=attempts)
        try:
            self.model = str(reply["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as error:
            raise RunError(
                f"the list of models has another form: {str(reply)[:200]}",
                where=self.address,
                expected="what OpenAI's protocol has for /v1/models, with one model at least",
            ) from error

    def complete(self, prompt: Ids, sampling: Sampling, stop_ids: Collection[int], seed: int) -> Generation:
        """Draw one completion; its version is the one that the server was last seen to hold.

        Raises:
            NoAnswer: The server does not answer.
            RunError: It refuses, or its answer is not what was asked for.
        """
        version = self.version
        body = completion_request(self.model or "", prompt, sampling, stop_ids, seed)
        reply, _ = self.endpoint.post("/v1/completions", body)
        return read_completion(
            reply, prompt, sampling, stop_ids, vocabulary=self.vocabulary, version=version, where=self.address
        )

    def score(self, texts: Sequence[Ids]) -> list[torch.Tensor]:
        """Log-probs [T - 1] of each text's tokens after its first one.

        Raises:
            NoAnswer, RunError: As ``complete``.
        """
        logps = []
        for ids in texts:
            reply, _ = self.endpoint.post("/v1/completions", scoring_request(self.model or "", ids))
            logps.append(read_prompt_logps(reply, ids, self.address))
        return logps

    def reload(self, folder: Path) -> None:
        """Ask it to take the weights in ``folder`` and to forget what it has cached of the old ones.

        Raises:
            NoAnswer, RunError: It does not answer, or refuses. That it does not refuse proves nothing.
        """
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        self.endpoint.post("/collective_rpc", body)
        self.endpoint.post("/reset_prefix_cache", {})
