"""Best-of-n: what picking the best of n by a proxy would give, without sampling n again and again.

Shapes: K prompts, N samples of each.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from trueup.errors import ShapeError
from trueup.evaluation.intervals import Floats, Interval, mean_interval


def best_of_n(proxy_KN: npt.ArrayLike, gold_KN: npt.ArrayLike, n: int, *, seed: int = 0) -> Interval:
    """Expected gold score of the best of ``n`` by proxy, unbiased, from N >= n samples a prompt.

    The i-th worst of N is the best of a random n-subset with probability C(i-1, n-1) / C(N, n)
    (Nakano et al. 2021, appendix). Samples that tie on the proxy share their chances.
    """
    proxy, gold = np.asarray(proxy_KN, dtype=np.float64), np.asarray(gold_KN, dtype=np.float64)
    if proxy.ndim != 2 or proxy.shape != gold.shape or not proxy.size:
        raise ShapeError(f"proxy {proxy.shape}, gold {gold.shape}", expected="the same shape [prompts, samples]")
    samples = proxy.shape[1]
    if not 1 <= n <= samples:
        raise ShapeError(f"n is {n} with {samples} samples a prompt", expected=f"1 <= n <= {samples}")
    weights_N = best_weights(samples, n)
    means = [float(weights_N @ _ranked_gold(p, g)) for p, g in zip(proxy, gold, strict=True)]
    return mean_interval(means, seed=seed)


def best_weights(samples: int, n: int) -> Floats:
    """Probability [N] that the sample of each rank (worst first) is the best of a random n-subset."""
    rank = np.arange(1, samples + 1)
    possible = rank >= n
    logs = np.full(samples, -np.inf)
    logs[possible] = _log_choose(rank[possible] - 1, n - 1) - _log_choose(np.array([samples]), n)[0]
    scaled: Floats = np.exp(logs)
    shares: Floats = scaled / scaled.sum()
    return shares


def _log_choose(n: npt.NDArray[np.int64], k: int) -> Floats:
    log_count: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return log_count


def _ranked_gold(proxy_N: Floats, gold_N: Floats) -> Floats:
    """Gold by rising proxy; within a tie every sample stands for the tie's mean."""
    levels, index_N = np.unique(proxy_N, return_inverse=True)
    means = np.bincount(index_N, gold_N, len(levels)) / np.bincount(index_N, minlength=len(levels))
    ranked: Floats = means[np.sort(index_N)]
    return ranked


def kl_bound(n: int) -> float:
    """log n - (n-1)/n in nats: exact without repeated outputs, otherwise only an upper bound (Beirami et al. 2024)."""
    if n < 1:
        raise ShapeError(f"n is {n}", expected="n >= 1")
    return math.log(n) - (n - 1) / n


def kl_plugin(outputs: Sequence[Hashable], proxy: Sequence[float], n: int) -> float:
    """KL(best-of-n || sampling) in nats for one prompt, with the sampled frequencies taken as the distribution.

    Args:
        outputs: Sampled completions; repetitions matter.
        proxy: Score of each; equal outputs must have equal scores.
        n: Candidates among which the proxy chooses; ties are broken at random.
    """
    if len(outputs) != len(proxy) or not outputs or n < 1:
        raise ShapeError(f"{len(outputs)} outputs, {len(proxy)} scores, n = {n}", expected="equally many, n >= 1")
    seen: dict[Hashable, float] = {}
    for output, score in zip(outputs, proxy, strict=True):
        if seen.setdefault(output, score) != score:
            raise ShapeError("one output has two proxy scores", expected="equal outputs score equally")
    # Outputs that tie on the proxy are chosen in proportion to their frequency, so only levels matter.
    _, counts = np.unique(np.asarray(proxy, dtype=np.float64), return_counts=True)
    p = counts / counts.sum()
    reach = np.concatenate([[0.0], np.cumsum(p)])
    q = reach[1:] ** n - reach[:-1] ** n
    kept = q > 0
    return float((q[kept] * np.log(q[kept] / p[kept])).sum())
