"""The demo of the course, with numbers that come out of training, seeded."""

from __future__ import annotations

import numpy as np

from trueup.course.analysis import analyze_reward_hacking, compare_alignment_methods
from trueup.course.direct import BigramModel, DPOTrainer
from trueup.course.preferences import PreferencePair
from trueup.course.rehearsal import Evaluation, Rehearsal
from trueup.course.reinforcement import AdaptiveKLController, ppo_loss, value_loss
from trueup.course.reward import RewardModel, reward_model_loss

_WORDS = ("how", "why", "when", "kind", "clear", "true", "rude", "vague", "false")


class WordTokenizer:
    """Ids of the words of a tiny vocabulary."""

    def encode(self, text: str) -> list[int]:
        """One id a word."""
        return [_WORDS.index(word) for word in text.split()]


def demo(seed: int = 0) -> None:
    """Print the four sections of the course's demo, and reward hacking as a fifth.

    Everything printed comes out of training that runs now, in about a second; the same seed prints the same numbers.
    """
    print("=" * 60)
    print("Stage 10: Alignment - RLHF and DPO")
    print("=" * 60)
    rng = np.random.default_rng(seed)
    _reward_model(rng)
    _dpo(rng, seed)
    runs = _ppo(seed)
    _comparison()
    _hacking(runs)


def _section(title: str) -> None:
    print(f"\n{title}")
    print("-" * 40)


def _reward_model(rng: np.random.Generator) -> None:
    _section("1. Reward Model Training")
    taste = rng.standard_normal(16)
    first, second = rng.standard_normal((200, 16)), rng.standard_normal((200, 16))
    better = (first @ taste > second @ taste)[:, None]
    chosen, rejected = np.where(better, first, second), np.where(better, second, first)
    model = RewardModel(16, 32, seed=0)
    train, held_out = slice(0, 150), slice(150, 200)
    for step in range(200):
        both = model.forward(np.concatenate([chosen[train], rejected[train]]))
        loss, up, down = reward_model_loss(both[:150], both[150:])
        model.backward(np.concatenate([up, down]))
        for parameter, gradient in zip(model.parameters(), model.gradients(), strict=True):
            parameter -= 0.5 * gradient
        if step in (0, 199):
            print(f"Reward model loss after {step + 1:3d} steps: {loss:.4f}")
    on_chosen, on_rejected = model.forward(chosen[held_out]), model.forward(rejected[held_out])
    print(f"Chosen rewards mean: {on_chosen.mean():.4f}")
    print(f"Rejected rewards mean: {on_rejected.mean():.4f}")
    print(f"Held-out accuracy: {np.mean(on_chosen > on_rejected):.2%}")


def _dpo(rng: np.random.Generator, seed: int) -> None:
    _section("2. Direct Preference Optimization (DPO)")
    good, bad = _WORDS[3:6], _WORDS[6:]
    pairs = [
        PreferencePair(str(rng.choice(_WORDS[:3])), " ".join(rng.choice(good, 3)), " ".join(rng.choice(bad, 3)))
        for _ in range(64)
    ]
    model = BigramModel(len(_WORDS), seed=seed)
    history = DPOTrainer(model, None, WordTokenizer(), beta=0.1, learning_rate=2.0).train(
        pairs, epochs=10, batch_size=8
    )
    for name, metrics in (("first step", history[0]), ("last step", history[-1])):
        print(f"DPO loss, {name}: {metrics['loss']:.4f}")
        print(f"  Accuracy: {metrics['accuracy']:.2%} ({metrics['accuracy_half_ties']:.2%} with ties half)")
        print(f"  Reward margin: {metrics['reward_margin']:.4f}")


def _ppo(seed: int) -> dict[str, list[Evaluation]]:
    _section("3. PPO Components (for RLHF)")
    rehearsal = Rehearsal(seed, kl_coef=0.0)
    buffer = rehearsal.collect(rollouts=2)
    batch = buffer.get_batch(normalize=True)
    print(f"Collected {len(buffer)} steps")
    print(f"Advantages shape: {batch['advantages'].shape}")
    print(f"Returns shape: {batch['returns'].shape}")
    loss, gradient = ppo_loss(rehearsal.logps(batch) + 0.3, batch["old_log_probs"], batch["advantages"])
    clipped = int((gradient == 0).sum())
    print(f"PPO loss: {loss:.4f} (policy 0.3 nats up everywhere; no gradient from {clipped} clipped steps)")
    print(f"Value loss: {value_loss(batch['values'], batch['returns'])[0]:.4f}")
    print("RLHF on a reward that counts one word, 100 updates:")
    runs = {}
    for control in (0.0, 0.5, AdaptiveKLController(0.5, target=1.0, horizon=1000)):
        run = Rehearsal(seed, kl_coef=control)
        history = [run.update() for _ in range(100)]
        first, last = history[0], history[-1]
        name = f"KL coefficient {control}" if isinstance(control, float) else "KL steered to 1 nat"
        print(f"  {name:20s} reward {first.reward:.2f} -> {last.reward:.2f}, KL {first.kl:.2f} -> {last.kl:.2f} nats")
        runs[name] = history
    return runs


def _comparison() -> None:
    _section("4. RLHF vs DPO Comparison")
    for name, facts in compare_alignment_methods().items():
        print(f"{name}:")
        print(f"  Models needed: {facts['models_needed']} ({', '.join(facts['models'])})")
        print(f"  Steps: {len(facts['steps'])}")
        print(f"  Pros: {'; '.join(facts['pros'])}")
        print(f"  Cons: {'; '.join(facts['cons'])}")


def _hacking(runs: dict[str, list[Evaluation]]) -> None:
    _section("5. Reward Hacking")
    for name, history in runs.items():
        shown = history[::4]
        analysis = analyze_reward_hacking(
            [e.reward for e in shown], [e.quality for e in shown], kl=[e.kl for e in shown]
        )
        print(f"{name}: reward {analysis['reward_change']:+.2f}, quality {analysis['quality_change']:+.2f}")
        print(f"  {analysis['summary']}")
