// Responses in order, with ties, and with some left out if need be. A list box; no dragging.

import { button, cap, h, show, uid } from "../shell/dom.js";
import { responsePanel, scrolling } from "../panels.js";
import { brief, reveal } from "../shell/text.js";
import { append, down, fromTiers, leave, order, tie, tierOf, unranked, up } from "../tiers.js";

export function ranking(assignment, { changed, say }) {
  const ids = assignment.responses.map((response) => response.id);
  const name = (id) => `Response ${ids.indexOf(id) + 1}`;
  const panels = assignment.responses.map((response, n) => responsePanel(`Response ${n + 1}`, response, "any"));
  const box = h("div", { class: "ranking", role: "listbox", tabindex: "0", "aria-label": "Ranking, best first" });
  let [now, active] = [unranked(ids), ids[0]];

  const place = (id) => {
    const at = tierOf(now, id);
    if (at < 0) return `${name(id)}: not ranked`;
    const others = now.tiers[at].filter((other) => other !== id).map(name);
    return `${name(id)}: place ${at + 1}${others.length ? `, tied with ${others.join(" and ")}` : ""}`;
  };
  const option = (id) => {
    const element = h("div", {
      role: "option", id: uid("option"), class: "option", "aria-selected": String(id === active), data: { id },
      "aria-label": `${place(id)}. ${brief(assignment.responses[ids.indexOf(id)].text, 60)}`,
      on: { click: () => go(id) },
    }, cap(`ranking.${ids.indexOf(id) + 1}`), h("strong", {}, name(id)),
    h("span", { class: "excerpt", dir: "auto" }, reveal(brief(assignment.responses[ids.indexOf(id)].text, 60))));
    if (id === active) box.setAttribute("aria-activedescendant", element.id);
    return element;
  };
  const group = (label, members, className) => {
    const heading = h("p", { class: "tier-name", id: uid("tier") }, label);
    return h("div", { role: "group", class: `tier ${className}`, "aria-labelledby": heading.id }, heading, members.map(option));
  };
  const draw = () => {
    show(box, now.tiers.map((tier, n) => group(tier.length > 1 ? `${n + 1} · tie` : `${n + 1}`, tier, "ranked")),
      now.out.length ? group("Not ranked", now.out, "out") : null);
    panels.forEach((panel, n) => panel.element.toggleAttribute("data-active", ids[n] === active));
    box.dispatchEvent(new Event("trueup:drawn", { bubbles: true }));
  };
  const go = (id, speak = true) => {
    active = id;
    draw();
    panels[ids.indexOf(id)].element.scrollIntoView({ block: "nearest" });
    if (speak) say(place(id));
  };
  const move = (change, id = active) => {
    now = change(now, id);
    active = id;
    draw();
    say(place(id));
    changed();
  };
  const step = (by) => {
    const shown = order(now);
    go(shown[Math.min(Math.max(shown.indexOf(active) + by, 0), shown.length - 1)]);
  };
  const arrows = { ArrowDown: () => step(1), ArrowUp: () => step(-1), Home: () => go(order(now)[0]), End: () => go(order(now).at(-1)) };
  box.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !arrows[event.key]) return;
    event.preventDefault();
    arrows[event.key]();
  });
  const tools = h("div", { class: "row tools", role: "group", "aria-label": "Move the chosen response" },
    [["Up", up, "rank.up"], ["Down", down, "rank.down"], ["Tie", tie, "rank.tie"], ["Leave out", leave, "rank.out"]]
      .map(([label, change, action]) => button(h("span", {}, label, " ", cap(action)), () => move(change), { class: "small", data: { shortcut: action } })));
  draw();
  return {
    element: h("div", { class: "task beside ranked" }, h("div", { class: "stack" }, panels.map((panel) => panel.element)),
      h("section", { class: "card order", "aria-label": "Order" }, h("h2", {}, "Best first"),
        h("p", { class: "hint" }, "Press the responses’ numbers from best to worst, then adjust."), box, tools)),
    actions: {
      ...scrolling(panels, say),
      ...Object.fromEntries(ids.map((id, n) => [`ranking.${n + 1}`, () => (tierOf(now, id) < 0 ? move(append, id) : go(id))])),
      "rank.up": () => move(up), "rank.down": () => move(down), "rank.tie": () => move(tie), "rank.out": () => move(leave),
      first: () => step(-1), second: () => step(1),
    },
    read() {
      const ranked = now.tiers.flat().length;
      if (ranked < 2) return { missing: "Rank at least two responses." };
      return { answer: { kind: "ranking", tiers: now.tiers } };
    },
    state: () => ({ tiers: now.tiers }),
    restore(draft) {
      now = fromTiers(ids, draft?.tiers);
      draw();
    },
    focus: () => box.focus(),
  };
}
