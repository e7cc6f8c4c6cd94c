// Points of one response on each axis.

import { h, radios } from "../shell/dom.js";
import { responsePanel, scrolling } from "../panels.js";

function axisGroup(axis, changed) {
  const points = Array.from({ length: axis.high - axis.low + 1 }, (_, n) => axis.low + n);
  const options = points.map((point) => ({
    value: String(point),
    label: String(point),
    hint: axis.labels?.[String(point)] ?? (point === axis.low ? axis.low_label : point === axis.high ? axis.high_label : ""),
  }));
  return { axis, ...radios(axis.label ?? axis.name, options, changed, { className: "choices axis" }) };
}

export function rating(assignment, { changed, say }) {
  const response = assignment.responses[0];
  const panel = responsePanel("Response", response);
  const groups = (assignment.config.axes ?? []).map((axis) => axisGroup(axis, changed));
  const focused = () => groups.findIndex((group) => group.element.contains(document.activeElement));
  const open = () => groups.findIndex((group) => group.get() === null);
  const give = (point) => () => {
    const place = focused() >= 0 ? focused() : Math.max(open(), 0);
    const group = groups[place];
    if (!group.inputs.has(point)) return say(`${group.axis.name} goes from ${group.axis.low} to ${group.axis.high}`);
    group.set(point);
    say(`${group.axis.name}: ${point}`);
    groups[Math.min(place + 1, groups.length - 1)].focus();
    return changed();
  };
  const move = (step) => () => groups[Math.min(Math.max((focused() < 0 ? -step : focused()) + step, 0), groups.length - 1)].focus();
  return {
    element: h("div", { class: "task beside" }, panel.element, h("div", { class: "axes card" }, groups.map((group) => group.element))),
    actions: {
      ...scrolling([panel], say),
      ...Object.fromEntries(Array.from({ length: 10 }, (_, n) => [`rating.${n}`, give(String(n))])),
      first: move(-1),
      second: move(1),
    },
    read() {
      const missing = groups.find((group) => group.get() === null);
      if (missing) return { missing: `Rate “${missing.axis.label ?? missing.axis.name}”.` };
      const scores = Object.fromEntries(groups.map((group) => [group.axis.name, Number(group.get())]));
      return { answer: { kind: "rating", response: response.id, scores } };
    },
    state: () => ({ scores: Object.fromEntries(groups.filter((g) => g.get() !== null).map((g) => [g.axis.name, Number(g.get())])) }),
    restore: (draft) => groups.forEach((group) => group.set(draft?.scores?.[group.axis.name]?.toString() ?? null)),
  };
}
