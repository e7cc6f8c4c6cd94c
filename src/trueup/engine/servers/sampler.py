"""The sampler of a run whose rollouts are drawn by servers.

At each synchronisation the policy's weights are written into a shared folder under their version, every server loads
them, and what it holds is looked at by its log-probs of fixed texts. After each draw it is looked at again: a server
that was restarted in between has its first weights back, and says nothing of it. Rollouts of a version that is too
old, or that cannot be told, are refused, counted, and drawn again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from trueup.config import Sampling
from trueup.config.seeds import derive
from trueup.data.batch import Ids
from trueup.engine.generate import Generation
from trueup.engine.placement import whole
from trueup.engine.processes import from_first, rank
from trueup.engine.score import sequence_logps
from trueup.engine.servers.pool import Pool, ServersGone
from trueup.engine.servers.server import RolloutServer
from trueup.engine.servers.settings import ServerRollouts
from trueup.engine.servers.weights import Versions, WeightFolder
from trueup.errors import DataError
from trueup.models.policy import Policy

log = logging.getLogger("trueup.engine")

LONGEST_TEXT, MOST_TEXTS = 64, 4
"""Tokens and number of the texts by which a version is recognised."""


class ServerSampler:
    """Draws at servers that hold the policy's weights. In a job of several processes the first one asks.

    Args:
        policy: The policy as the trainer has it.
        settings: Where the servers are and what is asked of them.
        texts: Token ids of prompts of the run, by whose log-probs a version is recognised.
        folder: Where the weights are written.
        export: Writes the policy into a folder that ``from_pretrained`` opens.
        wait: Called with the seconds to wait before another attempt.
    """

    def __init__(
        self,
        policy: Policy,
        settings: ServerRollouts,
        texts: Sequence[Ids],
        folder: Path,
        export: Callable[[Path], None],
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.policy = policy
        self.settings = settings
        self.version = 0
        self.drawn = 0
        """Completions since the last ``sync``."""
        self.export = export
        self.texts = probe_texts(texts)
        self.versions = Versions(settings.max_mismatch)
        self.pool = Pool(settings, policy.vocabulary, self.versions, self.texts, wait)
        self.weights = WeightFolder(folder, settings.keep_weights) if rank() == 0 else None
        self._written: tuple[int, Path] | None = None
        self._facts: dict[str, float] = {}

    def sync(self, version: int) -> None:
        """Give the servers the policy as it is now, where that is due.

        Raises:
            ServersGone: No server is of use.
            RunError: The disk, or a server, refuses; or a server holds another model.
        """
        self.version, self.drawn, self._facts = version, 0, {"regenerated": 0.0}
        logps = sequence_logps(self.policy, [(ids[:1], ids[1:]) for ids in self.texts])
        self.versions.add(version, logps)
        if self._written is not None and version < self._written[0] + self.settings.sync_every:
            return
        with whole(self.policy.model):
            folder = from_first(lambda: self._folder().write(version, self.export))
        self._written = version, folder
        from_first(self._bring)

    def draw(
        self, prompts: Sequence[Ids], sampling: Sampling, *, stop_ids: Collection[int], seed: int
    ) -> list[Generation]:
        """One completion for each prompt, in the order given, each from a version that is fresh enough.

        Raises:
            ServersGone: No server answers, or none gets fresh enough.
            RunError: An answer cannot be used.
        """

        def ask() -> tuple[list[Generation], dict[str, float]]:
            done: dict[int, Generation] = {}

            def work(server: RolloutServer, row: int) -> Generation:
                return server.complete(prompts[row], sampling, stop_ids, derive(seed, "row", row))

            refused = 0
            for attempt in range(self.settings.attempts):
                if attempt:
                    self._bring()
                missing = [row for row in range(len(prompts)) if row not in done]
                drawn = self.pool.run(missing, work)
                self.pool.look(list({id(server): server for _, server in drawn.values()}.values()))
                fresh = {row: one for row, (one, server) in drawn.items() if self._is_fresh(one, server)}
                done |= fresh
                if len(done) == len(prompts):
                    facts = {"regenerated": float(refused), "servers": float(len(self.pool.usable))}
                    return [done[row] for row in range(len(prompts))], facts
                refused += len(drawn) - len(fresh)
                log.warning(
                    "%d of %d rollouts are of other weights than at most %d versions old, and are drawn again",
                    len(drawn) - len(fresh),
                    len(drawn),
                    self.settings.max_staleness,
                )
            raise ServersGone(
                f"after {self.settings.attempts} draws {len(prompts) - len(done)} rollouts are still staler than"
                f" {self.settings.max_staleness} versions",
                where="rollout.max_staleness",
                fix="see why the servers do not keep the weights that they load; the same command goes on",
            )

        generations, facts = from_first(ask)
        self.drawn += len(generations)
        self._facts = facts | {"regenerated": self._facts["regenerated"] + facts["regenerated"]}
        return generations

    def facts(self) -> dict[str, float]:
        """Servers that answer, and rollouts that were refused and drawn again since the last ``sync``."""
        return dict(self._facts)

    def close(self) -> None:
        """Close the connections to the servers."""
        self.pool.close()

    def _folder(self) -> WeightFolder:
        assert self.weights is not None
        return self.weights

    def _bring(self) -> None:
        assert self._written is not None
        version, folder = self._written
        self.pool.bring(folder, version, self.version - self.settings.max_staleness)

    def _is_fresh(self, drawn: Generation, server: RolloutServer) -> bool:
        """Whether the server held the same version before and after, and that is new enough."""
        same = drawn.version is not None and drawn.version == server.version
        return same and drawn.version is not None and self.version - drawn.version <= self.settings.max_staleness


def probe_texts(texts: Sequence[Ids]) -> tuple[Ids, ...]:
    """The beginnings of the first few different texts that have two tokens or more.

    Raises:
        DataError: None has.
    """
    heads = dict.fromkeys(tuple(ids[:LONGEST_TEXT]) for ids in texts)
    long_enough = tuple(ids for ids in heads if len(ids) > 1)[:MOST_TEXTS]
    if not long_enough:
        raise DataError(
            "no prompt has two tokens, and a server's weights are recognised by what it makes of prompts",
            where="data",
            fix="take prompts of more than one token, or draw the rollouts here (leave rollout out)",
        )
    return long_enough
