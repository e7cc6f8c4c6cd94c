// What this browser keeps: drafts, unsent work, shortcuts. One place, so that a full or forbidden storage is noticed once.

const PREFIX = "trueup.";
let broken = false;
let complain = () => {};

/** Sets who is told, once, that nothing can be kept in this browser. */
export function onBroken(listener) {
  complain = listener;
  if (broken) complain();
}

function failed() {
  if (broken) return;
  broken = true;
  complain();
}

/** The stored value, or `otherwise` when there is none or it cannot be read. */
export function recall(name, otherwise = null) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) failed();
    return otherwise;
  }
}

/** Stores a JSON value; returns whether it was kept. */
export function keep(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    failed();
    return false;
  }
}

/** Names of the stored values whose name begins so. */
export function names(beginning) {
  try {
    return Object.keys(localStorage).filter((name) => name.startsWith(PREFIX + beginning)).map((name) => name.slice(PREFIX.length));
  } catch {
    failed();
    return [];
  }
}

/** Calls `listener` whenever another tab changes a value whose name begins so. */
export function onChange(beginning, listener) {
  window.addEventListener("storage", ({ key }) => (key === null || key.startsWith(PREFIX + beginning)) && listener());
}

/** Removes a stored value. */
export function forget(name) {
  try {
    localStorage.removeItem(PREFIX + name);
  } catch {
    failed();
  }
}
