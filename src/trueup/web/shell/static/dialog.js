// Modal questions, on the browser's own <dialog>: it traps focus, closes on Escape and gives focus back.

import { button, fill, h, uid } from "./dom.js";

/**
 * Opens a dialog.
 * @param {string} title
 * @param {Node[]} content
 * @param {{confirm?: string, check?: () => (string|null), className?: string, initial?: HTMLElement, danger?: boolean}} options
 *   `check` returns what is still missing, or null
 * @returns {Promise<boolean>} whether it was confirmed
 */
export function ask(title, content, options = {}) {
  const { confirm = "", check = () => null, className = "", initial = null, danger = false } = options;
  const heading = h("h2", { id: uid("dialog") }, title);
  const missing = h("p", { class: "missing", role: "alert" });
  const element = h("dialog", { "aria-labelledby": heading.id, class: className });
  const body = h("form", { method: "dialog" }, h("header", {}, heading), fill(h("div", { class: "dialog-body" }), content));
  const close = button(confirm ? "Cancel" : "Close", () => element.close(), { class: "quiet" });
  const accept = confirm && h("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm);
  body.append(h("footer", {}, missing, close, accept));
  element.append(body);
  document.body.append(element);
  const done = new Promise((resolve) => {
    let confirmed = false;
    body.addEventListener("submit", (event) => {
      event.preventDefault();
      const lack = check();
      missing.textContent = lack ?? "";
      if (lack) return;
      confirmed = Boolean(confirm);
      element.close();
    });
    element.addEventListener("close", () => {
      element.remove();
      resolve(confirmed);
    });
  });
  element.showModal();
  (initial || accept || close).focus();
  return done;
}
