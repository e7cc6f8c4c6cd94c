// The help overlay: what every key does here, and a way to change it.

import { ask } from "./shell/dialog.js";
import { button, h, show } from "./shell/dom.js";
import { chord, readable } from "./keys.js";

/** Opens the overlay for a task kind; `changed` is called when a key is another one now. */
export function help(keys, kind, changed = () => {}) {
  const status = h("p", { class: "hint", role: "status", "aria-live": "polite" }, "Press Change, then the new key.");
  const rows = h("tbody");
  const draw = () => show(rows, keys.table(kind).map((action) => row(keys, action, status, redraw)));
  const redraw = () => {
    draw();
    changed();
  };
  draw();
  const off = h("input", { type: "checkbox", id: "keys-on" });
  off.checked = keys.on;
  off.addEventListener("change", () => keys.enable(off.checked));
  const table = h(
    "table",
    { class: "keys" },
    h("thead", {}, h("tr", {}, ["Key", "What it does", "Change"].map((name) => h("th", { scope: "col" }, name)))),
    rows,
  );
  const reset = button("Restore all keys", () => {
    keys.reset();
    redraw();
    status.textContent = "All keys are as they were at first.";
  });
  return ask("Keys", [
    h("p", {}, "Keys are off while you write in a field. Ctrl+Enter submits from a field, Escape leaves it."),
    h("p", {}, h("label", { class: "check" }, off, "Use single-key shortcuts")),
    status,
    table,
    h("p", {}, reset),
  ], { className: "wide" });
}

function row(keys, action, status, redraw) {
  const change = button("Change", () => listen(keys, action, change, status, redraw), {
    class: "small",
    "aria-label": `Change the key for: ${action.label}`,
  });
  return h("tr", {}, h("td", {}, h("kbd", {}, readable(action.key))), h("td", {}, action.label), h("td", {}, change));
}

function listen(keys, action, change, status, redraw) {
  status.textContent = `Press the new key for “${action.label}”. Escape keeps the old one.`;
  const hear = (event) => {
    const pressed = chord(event);
    if (!pressed) return;
    event.preventDefault();
    event.stopPropagation();
    change.removeEventListener("keydown", hear);
    if (pressed === "Escape" || pressed === "Tab") {
      status.textContent = "Nothing changed.";
      return;
    }
    const taken = keys.remap(action.id, pressed);
    if (taken) {
      status.textContent = `${readable(pressed)} is taken by “${taken.label}”. Change that one first.`;
      return;
    }
    redraw();
    status.textContent = `${readable(pressed)} is now “${action.label}”.`;
    document.querySelector(`[aria-label="Change the key for: ${CSS.escape(action.label)}"]`)?.focus();
  };
  change.addEventListener("keydown", hear);
}
