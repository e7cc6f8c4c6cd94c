// Tabs after the ARIA pattern: arrow keys move, the address keeps the tab.

import { h, show, uid } from "./dom.js";

/**
 * @param {string} label
 * @param {Array<{id: string, label: string, draw: (panel: HTMLElement) => Promise<void>}>} tabs drawn anew when opened
 */
export function tabs(label, list) {
  const panel = h("div", { role: "tabpanel", tabindex: "0", id: uid("panel"), class: "tab-panel" });
  const buttons = list.map((tab) => h("button", {
    type: "button", role: "tab", id: `tab-${tab.id}`, "aria-controls": panel.id, on: { click: () => open(tab.id, false) },
  }, tab.label));
  let turn = 0;
  async function open(id, focus = true) {
    const place = Math.max(list.findIndex((tab) => tab.id === id), 0);
    buttons.forEach((button, n) => {
      button.setAttribute("aria-selected", String(n === place));
      button.tabIndex = n === place ? 0 : -1;
    });
    if (focus) buttons[place].focus();
    panel.setAttribute("aria-labelledby", buttons[place].id);
    history.replaceState(null, "", `#${list[place].id}`);
    show(panel, h("p", { class: "muted" }, "Loading…"));
    turn += 1;
    const ownTurn = turn;
    const fresh = h("div", {});
    await list[place].draw(fresh);
    if (ownTurn === turn) show(panel, fresh);
  }
  const row = h("div", { role: "tablist", "aria-label": label, class: "tabs" }, buttons);
  row.addEventListener("keydown", (event) => {
    const place = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: list.length - 1 }[event.key];
    if (to === undefined || place < 0) return;
    event.preventDefault();
    open(list[(to + list.length) % list.length].id);
  });
  return { element: h("div", {}, row, panel), open: (id) => open(id, false), panel };
}
