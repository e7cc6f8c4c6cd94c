// Answers that the server did not take: what it said of each, and what can be done with it.

import { ask } from "./shell/dialog.js";
import { button, h, show } from "./shell/dom.js";

/** Hands something to the person as a JSON file. */
function download(name, value) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(value, null, 2)], { type: "application/json" }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const about = (entry) => ({ path: entry.path, given_at: entry.at, idempotency_key: entry.key, server_said: entry.said?.words, ...entry.body });

function row(outbox, entry) {
  const when = new Date(entry.at).toLocaleString();
  const label = (text) => ({ class: "small", "aria-label": `${text}: answer of ${when}` });
  return h("li", { class: "unsent" },
    h("p", {}, h("strong", {}, `Answer of ${when}. `), entry.aside ? "Set aside. " : `Tried ${entry.tries ?? 1} times, will be tried again. `),
    h("p", {}, "The server said: ", h("q", { dir: "auto" }, entry.said.words)),
    h("p", { class: "row" },
      button("Send again", () => outbox.again(entry), label("Send again")),
      !entry.aside && button("Set aside", () => outbox.hold(entry), label("Set aside")),
      button("Download", () => download(`answer-${entry.key}.json`, about(entry)), label("Download")),
      button("Discard", () => outbox.discard(entry), { ...label("Discard"), class: "small danger" })));
}

/** Shows the answers that the server did not take, until the dialog is closed. */
async function look(outbox) {
  const list = h("ol", { class: "spans" });
  const none = h("p", { role: "status" });
  const draw = () => {
    const troubled = outbox.troubled;
    show(list, troubled.map((entry) => row(outbox, entry)));
    none.textContent = troubled.length ? "" : "Nothing is left: the server has all answers, or you discarded them.";
  };
  outbox.watch(draw);
  draw();
  await ask("Answers that the server did not take", [
    h("p", {}, "They are kept in this browser until you decide. A discarded answer is gone for good: download it first if in doubt."),
    list, none, button("Download all", () => download("answers.json", outbox.troubled.map(about)), { class: "small" }),
  ]);
}

/** A notice that is there as long as there are such answers. */
export function unsentNotice(outbox, place) {
  const line = h("div", { class: "notice", data: { tone: "warn" }, role: "status", hidden: true });
  const summary = h("p", {});
  show(line, summary, button("Look at them", () => look(outbox), { class: "small" }));
  place.prepend(line);
  const draw = () => {
    const count = outbox.troubled.length;
    line.hidden = count === 0;
    const text = `${count} ${count === 1 ? "answer was" : "answers were"} not taken by the server, and kept in this browser.`;
    if (summary.textContent !== text) summary.textContent = text;
  };
  outbox.watch(draw);
  draw();
}
