"""PPO: sample from the policy, score with a reward model, move towards what scored well, stay near the reference.

    trueup ppo --model runs/sft/final --reward runs/reward/final --data prompts.jsonl --out runs/ppo

One step is: rollout -> score -> per-token reward (score at the last token, minus beta * k1 everywhere)
-> GAE -> several epochs of clipped updates -> adaptive beta. The value head sits on the policy's trunk and the
reference is a frozen copy (or adapters off), so two networks' worth of weights are held, not four.

Left out on purpose: top-p, top-k and repetition penalty in rollouts. They bend the sampling distribution, so
old log-probs would not be those of the policy and the first ratio would not be 1; they are refused here and
available in ``trueup sample`` and evaluation. Temperature is allowed and enters every log-prob.

Shapes: B rollouts, C completion positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator

from trueup.config import Batch, Model, Optim, Reading, Sampling, Settings
from trueup.data.batch import EpochPlan, Ids, Rows
from trueup.data.read import read_prompts
from trueup.data.render import Renderer
from trueup.engine.generate import Completion, generate
from trueup.engine.placement import export, place, place_both
from trueup.engine.processes import highest, share, summed
from trueup.engine.resume import resume, saver
from trueup.engine.score import rewards, score, sequence_logps
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.losses import advantage as advantages
from trueup.losses import policy as losses
from trueup.models.heads import RewardModel, ValueHead, open_reward_model
from trueup.models.policy import Policy, Reference, open_policy, open_reference
from trueup.seeds import derive
from trueup.spec.kl import AdaptiveController, FixedController
from trueup.types import Prompt, StopReason, prompt_text


class AdaptiveKl(Settings):
    """Beta follows the measured KL (Ziegler et al. 2019, section 2.2)."""

    kind: Literal["adaptive"] = "adaptive"
    """Name of the controller."""
    beta: float = Field(default=0.1, gt=0)
    """Coefficient at the start."""
    target: float = Field(default=6.0, gt=0)
    """Sequence KL in nats to settle at."""
    horizon: float = Field(default=10000.0, gt=0)
    """Episodes over which beta may change by a factor of about e^0.2."""


class FixedKl(Settings):
    """Beta stays as it is."""

    kind: Literal["fixed"] = "fixed"
    """Name of the controller."""
    beta: float = Field(default=0.05, ge=0)
    """Coefficient of the KL penalty; 0 switches it off, which over-optimises sooner or later."""


class Ppo(Settings):
    """Settings of ``trueup ppo``."""

    data: str
    """Prompts: any format that has prompts; distinct ones are taken."""
    read: Reading = Reading()
    """How the file is read."""
    reward: str
    """Directory of a reward model trained by ``trueup reward``."""
    model: Model = Model(name="")
    """The policy to start from, usually the SFT model."""
    reference: str | None = None
    """The fixed reference; by default the weights the policy starts from."""
    optim: Optim = Optim(learning_rate=1e-5, eps=1e-5, schedule="constant", warmup=0.0)
    """How gradients become updates."""
    batch: Batch = Batch(size=128)
    """Rollouts per step, and how they are cut into micro-batches."""
    sampling: Sampling = Sampling()
    """How completions are drawn; only temperature and length may differ from plain sampling."""
    steps: int = Field(default=100, ge=1)
    """Rollout-and-update cycles."""
    epochs: int = Field(default=4, ge=1)
    """Passes over each batch of rollouts."""
    mini_batches: int = Field(default=1, ge=1)
    """Updates per pass: epochs x mini_batches updates a step in all."""
    kl: AdaptiveKl | FixedKl = Field(default=AdaptiveKl(), discriminator="kind")
    """Controller of the KL penalty."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount per token."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """GAE's lambda (Schulman et al. 2016)."""
    clip_range: float = Field(default=0.2, gt=0)
    """Half-width of the ratio's trust band."""
    value_clip_range: float = Field(default=0.2, gt=0)
    """How far values may move from the old ones before the loss stops following."""
    value_weight: float = Field(default=0.1, ge=0)
    """Weight of the value loss beside the policy loss."""
    entropy_weight: float = Field(default=0.0, ge=0)
    """Weight of an entropy bonus."""
    whiten_advantages: bool = True
    """Scale advantages to mean 0 and variance 1 over the valid tokens of the whole batch."""
    missing_eos_penalty: float = Field(default=1.0, ge=0)
    """Taken off the score of a completion that hit the length limit, in reward-model standard deviations."""
    length_penalty: float = Field(default=0.0, ge=0)
    """Taken off the score for each completion token."""
    kl_stop: float | None = Field(default=None, gt=0)
    """Stop the run when the KL of a step exceeds this many nats."""
    probes: int = Field(default=8, ge=0)
    """Fixed prompts whose completions are logged along the run."""
    probe_every: int = Field(default=10, ge=1)
    """Steps between probe samples."""
    save_every: int = Field(default=25, ge=1)
    """Steps between checkpoints."""
    seed: int = 0
    """Names every random draw of the run."""

    @model_validator(mode="after")
    def _sampling_is_unbent(self) -> Ppo:
        bent = [
            name
            for name, off in (("top_p", 1.0), ("top_k", 0), ("repetition_penalty", 1.0))
            if getattr(self.sampling, name) != off
        ]
        if bent:
            raise ValueError(
                f"sampling.{bent[0]} bends the distribution that rollouts are drawn from, so the first ratio would "
                "not be 1; leave it off here and use it in `trueup sample`"
            )
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature 0 is greedy: nothing is explored; use a value near 1")
        return self


@dataclass(frozen=True, eq=False)
class Rollout:
    """B completions of one step and everything the update needs; padding holds zeros."""

    sequences: tuple[tuple[Ids, Ids], ...]
    logps_BC: torch.Tensor
    reference_BC: torch.Tensor
    values_BC: torch.Tensor
    mask_BC: torch.Tensor
    score_B: torch.Tensor
    penalty_B: torch.Tensor
    stops: tuple[StopReason, ...]
    entropy: float

    @property
    def kl_BC(self) -> torch.Tensor:
        """Per-token k1 estimate of KL(policy || reference)."""
        return self.logps_BC - self.reference_BC


def train(config: Ppo, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    run.headline = ("score", "kl", "beta", "completion_length")
    torch.manual_seed(derive(config.seed, "ppo"))
    policy = open_policy(config.model, seed=config.seed)
    anchor = config.model.model_copy(update={"name": config.reference or config.model.name})
    shared = policy if config.reference is None else None
    reference = open_reference(anchor, policy=shared, pinned=run.fingerprint("reference"))
    place_both(policy, reference, config.model.engine)
    run.pin("reference", reference.fingerprint)
    judge = open_reward_model(
        Model(name=config.reward, dtype=config.model.dtype, device=config.model.device), new_head=False
    )
    place(judge, config.model.engine)
    renderer = Renderer.of(policy.tokenizer, config.batch, template=config.model.template, context=policy.context)
    scorer = _Scorer(judge, policy, renderer, config)
    loaded = read_prompts(config.data, **config.read.options())
    plan = _prompt_plan(loaded.items, config)
    value_head = ValueHead(policy.model.config.get_text_config().hidden_size).to(policy.device)
    parameters = policy.trainable() | {f"value_head.{n}": p for n, p in value_head.named_parameters()}
    stepper = Stepper(parameters, config.optim, config.steps * config.epochs * config.mini_batches)
    controller = _controller(config)
    coefficient = {"beta": float(resume(run, stepper).get("beta", controller.beta))}
    run.note(read=loaded.report.to_dict(), steps=config.steps)
    probes = loaded.items[: config.probes]
    for step, prompts in run.steps(plan, save=saver(run, stepper, coefficient.copy), save_every=config.save_every):
        rollout = collect(policy, reference, value_head, prompts, renderer, scorer, config, step)
        beta = coefficient["beta"]
        update, fit = _improve(policy, value_head, stepper, rollout, beta, config, step)
        measured = _measure(rollout, beta) | fit
        run.log(step, update, measured, {"kl_target": config.kl.target} if isinstance(config.kl, AdaptiveKl) else {})
        coefficient["beta"] = controller.update(beta, measured["kl"], len(prompts))
        if step % config.probe_every == 0 or step + 1 == config.steps:
            _log_probes(run, step, probes, policy, renderer, scorer, config)
        run.time(step, tokens=float(rollout.mask_BC.sum()))
        if config.kl_stop is not None and measured["kl"] > config.kl_stop:
            run.event("kl_stop", step=step, kl=measured["kl"], limit=config.kl_stop)
            break
    export(policy, run.path / "final")


class _Scorer:
    """Reward model plus penalties, on the same rendering as the policy when tokenizers agree."""

    def __init__(self, judge: RewardModel, policy: Policy, renderer: Renderer, config: Ppo) -> None:
        self.judge = judge
        self.config = config
        self.policy = policy
        same = judge.tokenizer.get_vocab() == policy.tokenizer.get_vocab()
        self.renderer = None if same else Renderer.of(judge.tokenizer, config.batch, context=judge.context)

    def __call__(self, prompts: Sequence[Prompt], sequences: Sequence[tuple[Ids, Ids]]) -> torch.Tensor:
        """Scores [B] of sampled completions, before penalties."""
        if self.renderer is None:
            return rewards(self.judge, sequences, budget=2 * self.judge.trunk.budget(self.config.batch))
        texts = [self.policy.tokenizer.decode(c, skip_special_tokens=True) for _, c in sequences]
        again = [self.renderer.render(p, t) for p, t in zip(prompts, texts, strict=True)]
        pairs = [(r.prompt_ids, r.completion_ids) for r in again]
        return rewards(self.judge, pairs, budget=2 * self.judge.trunk.budget(self.config.batch))

    def penalties(self, completions: Sequence[Completion]) -> torch.Tensor:
        """What is taken off each score [B]: length, and a missing EOS."""
        config = self.config
        taken = [
            config.length_penalty * len(c.ids) + (config.missing_eos_penalty if c.stop is StopReason.LENGTH else 0.0)
            for c in completions
        ]
        return torch.tensor(taken)


@torch.no_grad()
def collect(
    policy: Policy,
    reference: Reference,
    value_head: ValueHead,
    prompts: Sequence[Prompt],
    renderer: Renderer,
    scorer: _Scorer,
    config: Ppo,
    step: int,
) -> Rollout:
    """Sample, score, and record old log-probs, reference log-probs and values of every sampled token."""
    heads = [renderer.render_prompt(p) for p in prompts]
    seed = derive(config.seed, "rollout", step)
    drawn = generate(policy, heads, config.sampling, stop_ids=renderer.stop_ids, seed=seed)
    sequences = tuple((h, c.ids) for h, c in zip(heads, drawn, strict=True))
    score_B = scorer(prompts, sequences)
    if not bool(torch.isfinite(score_B).all()):
        from trueup.errors import NonFiniteError

        bad = int((~torch.isfinite(score_B)).nonzero()[0])
        raise NonFiniteError(
            f"the reward model gave {float(score_B[bad])}", where=f"prompt {prompt_text(prompts[bad])[:80]!r}"
        )
    count, width = len(sequences), max(len(c.ids) for c in drawn)
    logps_BC, values_BC = torch.zeros(count, width), torch.zeros(count, width)
    entropy_sum = 0.0
    mine = share(range(count), lambda i: _length(sequences[i]), policy.trunk.budget(config.batch))
    here: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    for group in mine:
        rows = Rows.of([sequences[i] for i in group], policy.device)
        found = score(policy, rows, temperature=config.sampling.temperature, entropy=True, value_head=value_head)
        assert found.values_BC is not None
        assert found.entropy_BC is not None
        here += zip(group, found.logps_BC.float().cpu(), found.values_BC.float().cpu(), strict=True)
        entropy_sum += float(found.entropy_BC.sum())
    for i, logps_C, values_C in mine.gather(here):
        logps_BC[i, : len(logps_C)], values_BC[i, : len(values_C)] = logps_C, values_C
    anchor = sequence_logps(
        reference, sequences, temperature=config.sampling.temperature, budget=2 * policy.trunk.budget(config.batch)
    )
    reference_BC = torch.nn.utils.rnn.pad_sequence(anchor, batch_first=True).float()
    lengths_B = torch.tensor([len(c.ids) for c in drawn])
    mask_BC = torch.arange(width)[None, :] < lengths_B[:, None]
    return Rollout(
        sequences,
        logps_BC,
        reference_BC,
        values_BC,
        mask_BC,
        score_B,
        scorer.penalties(drawn),
        tuple(c.stop for c in drawn),
        mine.sum(entropy_sum)[0] / float(lengths_B.sum()),
    )


def _improve(
    policy: Policy, value_head: ValueHead, stepper: Stepper, rollout: Rollout, beta: float, config: Ppo, step: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Several clipped passes over one batch of rollouts."""
    mask_BC = rollout.mask_BC
    rewards_BC = advantages.shaped_rewards(rollout.score_B - rollout.penalty_B, rollout.kl_BC, mask_BC, beta)
    raw_BC = advantages.gae(rewards_BC, rollout.values_BC, mask_BC, config.gamma, config.lam)
    returns_BC = raw_BC + rollout.values_BC
    used_BC = advantages.whiten(raw_BC, mask_BC) if config.whiten_advantages else raw_BC
    seen = _Tally()
    info: dict[str, float] = {}
    count = len(rollout.sequences)
    for epoch in range(config.epochs):
        draw = torch.Generator().manual_seed(derive(config.seed, "mini-batches", step, epoch))
        order = torch.randperm(count, generator=draw).tolist()
        for index in range(config.mini_batches):
            chosen = order[index * count // config.mini_batches : (index + 1) * count // config.mini_batches]
            tokens = float(mask_BC[chosen].sum())
            mine = stepper.share(chosen, lambda i: _length(rollout.sequences[i]), policy.trunk.budget(config.batch))
            for group in mine:
                rows = Rows.of([rollout.sequences[i] for i in group], policy.device)
                now = score(
                    policy,
                    rows,
                    temperature=config.sampling.temperature,
                    entropy=config.entropy_weight > 0,
                    value_head=value_head,
                )
                assert now.values_BC is not None
                picked, span = list(group), rows.mask_BC.shape[1]
                old, target, gain, old_values = (
                    t[picked, :span].to(policy.device)
                    for t in (rollout.logps_BC, returns_BC, used_BC, rollout.values_BC)
                )
                surrogate_BC = losses.ppo_clip(now.logps_BC, old, gain, config.clip_range) * rows.mask_BC
                fit_BC = losses.clipped_value(now.values_BC, old_values, target, config.value_clip_range) * rows.mask_BC
                total_BC = surrogate_BC + config.value_weight * fit_BC
                if now.entropy_BC is not None:
                    total_BC = total_BC - config.entropy_weight * now.entropy_BC
                stepper.accumulate(total_BC, count=tokens)
                logratio_BC = now.logps_BC.detach() - old
                seen.add(surrogate_BC, fit_BC, logratio_BC, gain, rows.mask_BC, config.clip_range, mine.copies)
            if epoch == 0 and index == 0:
                seen.first_update()
            info = stepper.step()
    spread = float(raw_BC[mask_BC].std()) if int(mask_BC.sum()) > 1 else 0.0
    residual = returns_BC[mask_BC] - rollout.values_BC[mask_BC]
    variance = float(returns_BC[mask_BC].var())
    explained = 1.0 - float(residual.var()) / variance if variance > 0 else 0.0
    return info, seen.summary() | {"advantage_std": spread, "explained_variance": explained}


class _Tally:
    """Token-weighted statistics over the mini-batches of one step."""

    def __init__(self) -> None:
        self.tokens = self.policy = self.value = self.clipped = self.approx = 0.0
        self.ratio_max = self.first_error = 0.0
        self._before_update = True

    def add(
        self,
        surrogate_BC: torch.Tensor,
        fit_BC: torch.Tensor,
        logratio_BC: torch.Tensor,
        gain_BC: torch.Tensor,
        mask_BC: torch.Tensor,
        clip_range: float,
        copies: int,
    ) -> None:
        with torch.no_grad():
            logratio_N, gain_N = logratio_BC[mask_BC], gain_BC[mask_BC]
            ratio_N = logratio_N.exp()
            stopped_N = ((gain_N > 0) & (ratio_N > 1 + clip_range)) | ((gain_N < 0) & (ratio_N < 1 - clip_range))
            self.tokens += float(mask_BC.sum()) / copies
            self.policy += float(surrogate_BC.sum()) / copies
            self.value += float(fit_BC.sum()) / copies
            self.clipped += float(stopped_N.sum()) / copies
            self.approx += float((ratio_N - 1 - logratio_N).sum()) / copies
            self.ratio_max = max(self.ratio_max, float(ratio_N.max()))
            if self._before_update:
                self.first_error = max(self.first_error, float((ratio_N - 1).abs().max()))

    def first_update(self) -> None:
        """From here on the ratio is allowed to differ from 1."""
        self._before_update = False

    def summary(self) -> dict[str, float]:
        tokens, policy, value, clipped, approx = summed(self.tokens, self.policy, self.value, self.clipped, self.approx)
        return {
            "policy_loss": policy / tokens,
            "value_loss": value / tokens,
            "clip_fraction": clipped / tokens,
            "approx_kl": approx / tokens,
            "ratio_max": highest(self.ratio_max),
            "first_ratio_error": highest(self.first_error),
        }


def _measure(rollout: Rollout, beta: float) -> dict[str, float]:
    kl_B = (rollout.kl_BC * rollout.mask_BC).sum(-1)
    ratio_BC = -rollout.kl_BC
    k3_B = ((ratio_BC.exp() - 1 - ratio_BC) * rollout.mask_BC).sum(-1)
    ended = [stop is StopReason.EOS for stop in rollout.stops]
    return {
        "score": float(rollout.score_B.mean()),
        "reward": float((rollout.score_B - rollout.penalty_B - beta * kl_B).mean()),
        "kl": float(kl_B.mean()),
        "kl_k3": float(k3_B.mean()),
        "beta": beta,
        "entropy": rollout.entropy,
        "completion_length": float(rollout.mask_BC.sum(-1).float().mean()),
        "eos_rate": sum(ended) / len(ended),
        "distinct_2": distinct_bigrams([c for _, c in rollout.sequences]),
    }


def distinct_bigrams(completions: Sequence[Ids]) -> float:
    """Distinct token bigrams over all bigrams of the batch; falls when outputs become alike."""
    bigrams = [pair for c in completions for pair in itertools.pairwise(c)]
    return len(set(bigrams)) / len(bigrams) if bigrams else 1.0


def _controller(config: Ppo) -> AdaptiveController | FixedController:
    if isinstance(config.kl, AdaptiveKl):
        return AdaptiveController(config.kl.beta, config.kl.target, config.kl.horizon)
    return FixedController(config.kl.beta)


class _PromptPlan:
    """``steps`` batches of prompts, cycling through seeded epochs."""

    def __init__(self, epochs: EpochPlan[Prompt], steps: int) -> None:
        self.epochs = epochs
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    @property
    def longest(self) -> int:
        """The step with the longest prompts."""
        return self.epochs.longest_of(self.steps)

    def __getitem__(self, step: int) -> tuple[Prompt, ...]:
        return self.epochs[step]


def _prompt_plan(prompts: Sequence[Prompt], config: Ppo) -> _PromptPlan:
    # The last batch of an epoch may be short; EpochPlan addresses any step of any epoch.
    epochs = EpochPlan(
        prompts, config.batch.size, 1, config.seed, "ppo prompts", length=lambda prompt: len(prompt_text(prompt))
    )
    return _PromptPlan(epochs, config.steps)


def _log_probes(
    run: Run,
    step: int,
    probes: Sequence[Prompt],
    policy: Policy,
    renderer: Renderer,
    scorer: _Scorer,
    config: Ppo,
) -> None:
    heads = [renderer.render_prompt(p) for p in probes]
    if not heads:
        return
    seed = derive(config.seed, "probes")
    drawn = generate(policy, heads, config.sampling, stop_ids=renderer.stop_ids, seed=seed)
    scores = scorer(probes, [(h, c.ids) for h, c in zip(heads, drawn, strict=True)])
    for prompt, completion, value in zip(probes, drawn, scores.tolist(), strict=True):
        text = policy.tokenizer.decode(completion.ids, skip_special_tokens=True)
        question = prompt if isinstance(prompt, str) else prompt[-1].content
        row = {"prompt": prompt_text(prompt), "question": question, "completion": text}
        run.sample(step, **row, score=value, stop=completion.stop.value)


def _length(sequence: tuple[Ids, Ids]) -> int:
    return len(sequence[0]) + len(sequence[1])
