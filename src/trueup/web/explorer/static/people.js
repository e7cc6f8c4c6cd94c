// Alerts and people: a button that has the answers at an alert judged, and what people said.

import { post } from "./shell/api.js";
import { button, h } from "./shell/dom.js";
import { announce, attempt } from "./shell/page.js";
import { plural } from "./format.js";

const waiting = new Set();

const share = (value) => `${Math.round(100 * value)} %`;

/** What people said about an alert, as one short label. */
export const label = ({ win_rate: rate, votes }) => `people ${share(rate.estimate)} [${share(rate.low)}, ${share(rate.high)}], ${plural(votes, "vote")}`;

/** The question about an alert, if it was asked. */
const askedAbout = (run, alert) => run.asked?.alerts.find((one) => one.rule === alert.rule && one.step === alert.step);

/** The questions that have an answer, by step. */
export const answered = (run) => (run.asked?.alerts ?? []).filter((one) => one.win_rate).sort((a, b) => a.step - b.step);

function outcome(asked) {
  const pairs = `the answers of step ${asked.probe} against those of step ${asked.start}`;
  if (!asked.win_rate) return `${plural(asked.pairs, "blind pair")} wait for people: ${pairs}. Nobody has judged one yet.`;
  const { estimate, low, high } = asked.win_rate;
  const equal = asked.equal ? ` ${plural(asked.equal, "pair")} of equal answers count as ties.` : "";
  const simulated = asked.simulated ? " The people are simulated." : "";
  return `People prefer the later answers in ${share(estimate)} (95 % interval ${share(low)} to ${share(high)}): ${pairs}; ` +
    `${asked.judged} of ${plural(asked.pairs, "pair")} judged, ${plural(asked.votes, "vote")} by ${asked.people === 1 ? "one person" : `${asked.people} people`}.${equal}${simulated}`;
}

/**
 * The line of an alert about people.
 * @param {object} run as the server describes it
 * @param {object} alert
 * @param {boolean} asks whether this server may have people asked
 * @param {(asked: object) => void} done gets what was asked
 */
export function question(run, alert, asks, done) {
  const asked = askedAbout(run, alert);
  if (asked) return h("p", { class: "people" }, outcome(asked));
  if (!asks) return null;
  const key = `${run.name}\n${alert.rule}\n${alert.step}`;
  const press = button("Ask people", async () => {
    waiting.add(key);
    press.disabled = true;
    await attempt(async () => {
      const reply = await post("/ask", { run: run.name, rule: alert.rule, step: alert.step });
      announce(`${plural(reply.pairs, "blind pair")} wait for people`);
      done(reply);
    });
    waiting.delete(key);
    press.disabled = false;
  }, { class: "small", "aria-label": `Ask people about ${alert.rule} at step ${alert.step}` });
  press.disabled = waiting.has(key);
  return h("p", { class: "people" }, press, h("span", { class: "hint" }, "Blind pairs of the answers here and at the start, for the annotation queue."));
}
