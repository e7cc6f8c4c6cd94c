// The guided tour: a text beside the page, step by step, that points at what it speaks of. It can be left at any time.

import { button, h, show } from "./shell/dom.js";
import { announce } from "./shell/page.js";
import { number, plain } from "./format.js";
import { go, here } from "./place.js";

const PATIENCE_MS = 8000;
const LOOK_MS = 60;

const code = (text) => h("code", {}, text);

/** What is said at each step, where it is seen, and what it points at. Numbers are those of the recorded runs. */
function steps({ runs, facts }) {
  const [healthy, drifting] = runs;
  const [good, bad] = runs.map((name) => facts[name]);
  const change = ([from, to]) => `from ${number(from)} to ${number(to)}`;
  const band = good.band && `${plain(good.band.low)} to ${plain(good.band.high)} nats`;
  return [
    { title: "Two runs, one lesson", place: { run: healthy }, target: ".runs", text: [
      h("p", {}, "Two recorded runs of PPO from the same model, on the same prompts, in a small world in which the true quality of every answer is known: gold. Training never sees gold; it follows a reward model."),
      h("p", {}, h("b", {}, healthy), " follows a reward model taught by careful judgments, and pays for leaving its start. ", h("b", {}, drifting), " follows one taught by a few hasty judgments, and hardly pays.")] },
    { title: "Reward and KL, on one axis", place: { run: healthy }, target: ".hero", text: [
      h("p", {}, `The score rises ${change(good.score)}. KL, which says how far the policy is from where it started, ${band ? `comes to ${number(good.kl[1])} nats; the green band, ${band}, is its target` : `comes to ${number(good.kl[1])} nats`}.`),
      h("p", {}, "The coefficient below is what a nat of KL costs. The controller moves it so that KL stays near the target.")] },
    { title: "The verdict", place: { run: healthy }, target: ".verdict", text: [
      h("p", {}, "The same in a sentence, with the numbers that it rests on. It is computed from the curves, anew with every step.")] },
    { title: "Was it worth it?", place: { run: healthy }, target: '[data-metrics="gold"]', text: [
      h("p", {}, `Gold, measured afterwards on fixed prompts, begins at ${number(good.gold[0])} and ends at ${number(good.gold[1])}, with some noise: following this reward model did no harm. Outside of a sandbox nobody has this curve.`)] },
    { title: "The same picture, gone wrong", place: { run: drifting }, target: '.hero [data-metrics^="kl"]', text: [
      h("p", {}, `This run's score rises too, ${change(bad.score)}. By its score alone it is a success. Now look at KL: it ends at ${number(bad.kl[1])} nats, and the coefficient, ${number(bad.beta[1])}, is too small to hold it.`)] },
    { title: "What the score did not say", place: { run: drifting }, target: '[data-metrics="gold"]', text: [
      h("p", {}, `Gold was best at step ${bad.gold_peak.step} with ${number(bad.gold_peak.value)} and ends at ${number(bad.gold[1])}. The policy learned what the reward model likes, not what is good. This is over-optimisation.`)] },
    { title: "An alert, long before the end", place: { run: drifting }, target: ".alerts", text: [
      bad.alert && h("p", {}, `At step ${bad.alert.step} of ${bad.last_step + 1} an alert opened; red lines mark such steps in the curves. It needs no gold, only the run's own numbers.`),
      h("p", {}, "In training, ", code("on_alert"), " says what it does: ", code("warn"), ", ", code("pause"), ", ", code("stop"), " or ", code("raise_kl"), ".")] },
    { title: "The phase plane", place: { run: drifting }, target: '[aria-label="Phase plane"]', text: [
      h("p", {}, "Each point is a step: right is further away from the start, up is more reward. A healthy run climbs steeply, then stands still. This one goes on to the right: it buys reward with distance.")] },
    { title: "Read the answers", place: { run: drifting, view: "samples", step: String(bad.last_probe) }, target: '[aria-labelledby="samples"]', text: [
      h("p", {}, "No number replaces this. Look at what scores high at the last step, and move the slider back to see how it came about.")] },
    { title: "Side by side", place: { view: "compare", runs: [healthy, drifting], metric: "gold" }, target: '[aria-label="Curves"]', text: [
      h("p", {}, "Tick runs in the list to compare them: curves, paths, last values, and only those settings that differ."),
      h("p", {}, "Now yours: ", code("trueup quickstart"), " trains a model in a few minutes, and ", code("trueup explore runs"), " shows it while it trains.")] },
  ];
}

const editable = (element) => element?.closest?.("input, select, textarea, dialog") !== null && element?.closest !== undefined;

/** The panel of the tour. `left` is called when somebody leaves it. */
export class Tour {
  constructor(told, left) {
    this.steps = steps(told);
    this.left = left;
    this.at = -1;
    this.turn = 0;
    this.title = h("h2", { id: "tour-title" });
    this.count = h("p", { class: "hint" });
    this.text = h("div", { class: "tour-text" });
    this.back = button("Back", () => this.by(-1), { class: "small", "aria-keyshortcuts": "ArrowLeft" });
    this.next = button("Next", () => this.by(1), { class: "small primary", "aria-keyshortcuts": "ArrowRight" });
    this.leave = button("Leave", () => this.close(), { class: "small quiet", "aria-keyshortcuts": "Escape" });
    this.element = h("section", { class: "card tour", "aria-labelledby": "tour-title" }, this.count, this.title, this.text,
      h("div", { class: "row" }, this.back, this.next, this.leave), h("p", { class: "hint keys" }, "Keys: ← and →, Esc to leave."));
    this.keys = (event) => this.key(event);
    document.addEventListener("keydown", this.keys);
  }

  key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || editable(event.target)) return;
    if (event.key === "Escape") this.close();
    else if (event.key === "ArrowRight") this.by(1);
    else if (event.key === "ArrowLeft") this.by(-1);
    else return;
    event.preventDefault();
  }

  by(change) {
    const next = this.at + change;
    if (next >= this.steps.length) this.close();
    else if (next >= 0) go({ runs: [], ...this.steps[next].place, tour: String(next + 1) });
  }

  /** Shows the step that the address names; without one the step that is there stays. */
  follow() {
    const asked = Number(here().tour);
    if (!Number.isInteger(asked) || asked < 1 || asked > this.steps.length || asked - 1 === this.at) return;
    this.at = asked - 1;
    const step = this.steps[this.at];
    const last = asked === this.steps.length;
    this.count.textContent = `Tour, ${asked} of ${this.steps.length}`;
    this.title.textContent = step.title;
    show(this.text, step.text);
    this.back.disabled = this.at === 0;
    this.next.textContent = last ? "Done" : "Next";
    announce(`${this.count.textContent}: ${step.title}. ${this.text.textContent}`);
  }

  /** Points at what the step speaks of, as soon as it is on the page. */
  async point() {
    this.turn += 1;
    const own = this.turn;
    this.unmark();
    const step = this.steps[this.at];
    if (!step || Number(here().tour) !== this.at + 1) return; // somebody looks around
    for (let waited = 0; waited < PATIENCE_MS && own === this.turn; waited += LOOK_MS) {
      const target = document.querySelector(`.explorer :is(${step.target})`);
      if (target && target.getClientRects().length) {
        target.classList.add("tour-target");
        target.scrollIntoView({ block: target.offsetHeight > innerHeight / 2 ? "start" : "center" });
        return;
      }
      await new Promise((again) => setTimeout(again, LOOK_MS));
    }
  }

  unmark() {
    document.querySelectorAll(".tour-target").forEach((element) => element.classList.remove("tour-target"));
  }

  close() {
    this.turn += 1;
    document.removeEventListener("keydown", this.keys);
    this.unmark();
    this.element.remove();
    go({ ...here(), tour: "" }, { quiet: true });
    announce("The tour is over");
    this.left();
  }
}
