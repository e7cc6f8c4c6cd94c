// Shortcuts: one table, remappable, stored in this browser, off inside text fields and dialogs.

import { forget, keep, recall } from "./shell/storage.js";

const digits = (kinds, labels) =>
  labels.map(([key, label]) => ({ id: `${kinds[0]}.${key}`, key, label, kinds }));

/** Every action that has a key. `kinds` lists the task kinds it belongs to; without it, it belongs to all. */
export const ACTIONS = [
  ...digits(["pairwise"], [
    ["1", "Left is much better"], ["2", "Left is better"], ["3", "Left is slightly better"], ["4", "Tie"],
    ["5", "Right is slightly better"], ["6", "Right is better"], ["7", "Right is much better"], ["0", "Both are bad"],
  ]),
  ...digits(["review"], [["1", "Left is better"], ["2", "No difference"], ["3", "Right is better"]]),
  ...digits(["ranking"], Array.from({ length: 9 }, (_, n) => [`${n + 1}`, `Rank response ${n + 1} next`])),
  ...digits(["rating"], Array.from({ length: 10 }, (_, n) => [`${n}`, `Give ${n} on this axis, go to the next`])),
  { id: "yes", key: "y", label: "Yes / acceptable", kinds: ["binary", "review"] },
  { id: "no", key: "n", label: "No / not acceptable", kinds: ["binary", "review"] },
  { id: "rank.up", key: "Alt+ArrowUp", label: "Move up one place", kinds: ["ranking"] },
  { id: "rank.down", key: "Alt+ArrowDown", label: "Move down one place", kinds: ["ranking"] },
  { id: "rank.tie", key: "t", label: "Tie with the one above, or untie", kinds: ["ranking"] },
  { id: "rank.out", key: "Delete", label: "Leave unranked", kinds: ["ranking"] },
  { id: "first", key: "j", label: "Go to Left, or the one before", kinds: ["pairwise", "review", "ranking", "rating"] },
  { id: "second", key: "k", label: "Go to Right, or the next one", kinds: ["pairwise", "review", "ranking", "rating"] },
  { id: "scroll", key: "Space", label: "Scroll the texts, together" },
  { id: "scroll.back", key: "Shift+Space", label: "Scroll back, together" },
  { id: "expand", key: "x", label: "Show the texts in full, or clamp them" },
  { id: "diff", key: "d", label: "Mark differing words", kinds: ["pairwise", "review", "edit"] },
  { id: "mark", key: "c", label: "Mark the selected text", kinds: ["critique"] },
  { id: "text", key: "v", label: "Go to the text, to select in it", kinds: ["critique"] },
  { id: "write", key: "e", label: "Go to the writing field", kinds: ["critique", "edit", "redteam"] },
  { id: "why", key: "r", label: "Go to the reason" },
  { id: "submit", key: "Enter", label: "Submit (Ctrl+Enter inside a text field)" },
  { id: "skip", key: "s", label: "Skip, with a reason" },
  { id: "flag", key: "f", label: "Report a problem with this item" },
  { id: "undo", key: "u", label: "Correct the last answer" },
  { id: "guide", key: "g", label: "Read the guideline" },
  { id: "help", key: "?", label: "Show all keys" },
];

const SHOWN = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Delete: "Del" };
const MODIFIERS = new Set(["Control", "Shift", "Alt", "Meta", "AltGraph", "CapsLock", "NumLock"]);
const FIELDS = "textarea, select, input:not([type=radio]):not([type=checkbox]):not([type=file]), [contenteditable]:not([data-reading])";
const PRESSED_BY_SPACE = "button, a, summary, input, [role=tab]";
const PRESSED_BY_ENTER = "button, a, summary";

/** The key of an event as written in the table, or null for a bare modifier. */
export function chord(event) {
  if (MODIFIERS.has(event.key)) return null;
  let key = event.key === " " ? "Space" : event.key;
  // On a keyboard that writes another script, the letter printed on the key counts.
  if (key.length === 1 && key > "\u007f" && /^Key[A-Z]$/.test(event.code)) key = event.code.slice(3);
  if (key.length === 1) key = key.toLowerCase();
  const shift = event.shiftKey && key.length > 1;
  return [event.ctrlKey && "Ctrl", event.metaKey && "Meta", event.altKey && "Alt", shift && "Shift", key]
    .filter(Boolean)
    .join("+");
}

/** A key as people read it. */
export function readable(key) {
  return key.split("+").map((part) => SHOWN[part] ?? (part.length === 1 ? part.toUpperCase() : part)).join("+");
}

function meet(action, other) {
  return !action.kinds || !other.kinds || action.kinds.some((kind) => other.kinds.includes(kind));
}

export class Keys {
  constructor() {
    this.changed = recall("keys", {});
    this.on = recall("keys.on", true);
    this.actions = new Map();
    this.listener = (event) => this.press(event);
    document.addEventListener("keydown", this.listener);
  }

  /** Sets what the actions do now; whatever is not named does nothing. */
  bind(actions, kind) {
    this.actions = new Map(Object.entries(actions));
    this.kind = kind;
  }

  of(id) {
    return this.changed[id] ?? ACTIONS.find((action) => action.id === id)?.key ?? "";
  }

  /** The actions that mean something in a task kind, each with its present key. */
  table(kind) {
    const of = ACTIONS.filter((action) => !action.kinds || action.kinds.includes(kind));
    return of.map((action) => ({ ...action, key: this.of(action.id) }));
  }

  /** Gives an action another key; returns the action that has it already, and then changes nothing. */
  remap(id, key) {
    const action = ACTIONS.find((action) => action.id === id);
    const taken = ACTIONS.find((other) => other.id !== id && meet(action, other) && this.of(other.id) === key);
    if (taken) return taken;
    this.changed = { ...this.changed, [id]: key };
    keep("keys", this.changed);
    return null;
  }

  /** Writes the present keys onto the key caps and controls under an element. */
  paint(root) {
    for (const place of root.querySelectorAll("kbd[data-action]")) place.textContent = readable(this.of(place.dataset.action));
    for (const control of root.querySelectorAll("[data-shortcut]")) {
      control.setAttribute("aria-keyshortcuts", this.of(control.dataset.shortcut));
    }
  }

  reset() {
    this.changed = {};
    forget("keys");
  }

  /** Single-key shortcuts can be switched off altogether (WCAG 2.1.4). */
  enable(on) {
    this.on = on;
    keep("keys.on", on);
  }

  press(event) {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const pressed = chord(event);
    const target = event.target instanceof Element ? event.target : document.body;
    const writing = target.closest(FIELDS);
    if (pressed === "Ctrl+Enter" || pressed === "Meta+Enter") {
      if (writing || this.on) this.run("submit", event);
      return;
    }
    if (writing) {
      if (pressed === "Escape") target.blur();
      return;
    }
    if (!this.on || !pressed) return;
    if (pressed.endsWith("Space") && target.closest(PRESSED_BY_SPACE)) return;
    if (pressed === "Enter" && target.closest(PRESSED_BY_ENTER)) return;
    const action = this.table(this.kind).find((action) => action.key === pressed && this.actions.has(action.id));
    if (action) this.run(action.id, event);
  }

  run(id, event) {
    const act = this.actions.get(id);
    if (!act || event.repeat && id === "submit") return;
    event.preventDefault();
    act();
  }
}
