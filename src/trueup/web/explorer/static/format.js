// Numbers and words as people read them.

/** A number in few digits; a gap is said by its own name. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e7) return value.toLocaleString("en").replace("-", "−");
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace("-", "−");
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
  return value.toFixed(digits).replace("-", "−");
}

/** A number without trailing zeros. */
export const plain = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))).replace("-", "−") : number(value));

/** A number with its sign. */
export const signed = (value) => (value > 0 ? `+${number(value)}` : number(value));

const SAID = {
  loss: "Loss", kl: "KL to the reference", beta: "Coefficient of the KL", score: "Score", reward: "Reward",
  kl_k3: "KL by k3", eos_rate: "EOS rate", distinct_2: "Distinct bigrams", approx_kl: "KL of the update",
  kl_target: "Target of the KL", nll: "NLL", grad_norm: "Gradient norm", ratio_max: "Largest ratio", advantage_std: "Spread of advantages",
  first_ratio_error: "Error of the first ratio", score_cut: "Cut for the reward", score_no_eos: "Score without an end", ratio_outside: "Ratios outside 0.9 to 1.1",
  gold: "Gold, the true quality", seconds: "Seconds of a step", chosen_logratio: "Log-ratio of chosen", rejected_logratio: "Log-ratio of rejected",
};

/** A metric's name for people: "chosen_logratio" becomes "Chosen logratio". */
export function named(metric) {
  if (SAID[metric]) return SAID[metric];
  const text = metric.replaceAll("_", " ").replace(/^heldout /u, "Held-out ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** "3 runs", "1 run". */
export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** A setting's value on one line. */
export function setting(value) {
  if (value === null || value === undefined) return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}

const STATUS = {
  running: ["running", "live"], done: ["done", "good"], failed: ["failed", "bad"], interrupted: ["interrupted", "warn"],
  silent: ["silent: says running, writes nothing", "warn"], unreadable: ["unreadable", "bad"],
};

/** A run's status in words, and its tone. */
export const status = (word) => STATUS[word] ?? [word, "warn"];
