// Pausing and stopping a run from the page: what was asked, what came of it, and two buttons for a lead.

import { post } from "./shell/api.js";
import { ask } from "./shell/dialog.js";
import { button, h, show } from "./shell/dom.js";
import { announce, attempt } from "./shell/page.js";
import { number } from "./format.js";

const TRAINS = new Set(["running", "silent"]);
const ACTIONS = {
  pause: { label: "Pause", title: "Pause this run?", words: (run) => ["The running step is finished and saved. Then the training process ends, with exit code 3.", h("p", {}, "To go on from there: ", h("code", {}, run.control.resume))] },
  stop: { label: "Stop", title: "Stop this run for good?", words: () => ["The running step is its last one. A checkpoint, probes and final/ are written, and the run is done.", h("p", {}, "It cannot be gone on with.")] },
};
const clock = (seconds) => new Date(1000 * seconds).toLocaleTimeString("en-GB");

/** Why a run ended before its last step, in words. */
export function ended({ step, rule, by }) {
  return rule ? `ended early at step ${number(step)} by its alert ${rule}` : `ended early at step ${number(step)}, as ${by} asked`;
}

/** The line of a run about pausing and stopping. It is drawn anew only when it says something else, so focus stays. */
export class Control {
  constructor(may) {
    this.may = may;
    this.element = h("div", { class: "control" });
    this.shown = "";
  }

  /** @param {object} run as the server describes it */
  draw(run) {
    this.run = run;
    const { control, status } = run;
    const shown = JSON.stringify([control, status]);
    if (!control || shown === this.shown) return;
    this.shown = shown;
    show(this.element, TRAINS.has(status) ? this.training(control) : control.paused && this.paused(control));
  }

  training({ allowed, asked, held, resume }) {
    if (!held) {
      return h("p", { class: "ink-warn" }, "No process here trains it: it was killed, or it trains on another computer and is copied here. ",
        asked && [`At ${clock(asked.time)} `, h("bdi", {}, asked.by), ` asked it to ${asked.action}, which nobody will do. `],
        "To go on, where it was killed: ", h("code", {}, resume));
    }
    if (asked) {
      return h("p", { class: "ink-warn" }, `At ${clock(asked.time)} `, h("bdi", {}, asked.by), ` asked it to ${asked.action}: it does when its running step is done.`);
    }
    if (!this.may) return null;
    if (!allowed) return h("p", { class: "hint" }, "It cannot be paused or stopped from here: it was started without ", h("code", {}, "control=true"), ".");
    return h("p", { class: "row" }, Object.keys(ACTIONS).map((action) => button(ACTIONS[action].label, () => this.ask(action), { class: "small", "aria-haspopup": "dialog" })));
  }

  paused({ paused, resume }) {
    return h("p", {}, `Paused after step ${number(paused.step)}, as `, h("bdi", {}, paused.by), " asked. To go on: ", h("code", {}, resume));
  }

  async ask(action) {
    const { title, words, label } = ACTIONS[action];
    const [first, ...rest] = words(this.run);
    if (!await ask(title, [h("p", {}, first), ...rest], { confirm: label, danger: action === "stop" })) return;
    await attempt(async () => {
      const asked = await post("/control", { run: this.run.name, action });
      announce(`The run was asked to ${action}`);
      this.draw({ ...this.run, control: { ...this.run.control, asked } });
    });
  }
}
