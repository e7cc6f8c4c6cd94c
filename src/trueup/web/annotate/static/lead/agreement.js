// How far people agree, and what fewer judgments for each item would have bought.

import { get, seg } from "../shell/api.js";
import { h, show, svg } from "../shell/dom.js";
import { report, table } from "../shell/table.js";
import { surplus } from "./surplus.js";

const [WIDE, TALL, PAD] = [420, 180, 48];

/** Share of verdicts predicted, by judgments of each item; the same numbers stand in the table below. */
function curve(rows) {
  const most = rows.at(-1).overlap;
  const lowest = Math.min(0.5, ...rows.map((row) => row.low));
  const highest = Math.max(...rows.map((row) => row.high));
  const x = (overlap) => PAD + ((overlap - 1) / Math.max(1, most - 1)) * (WIDE - PAD - 12);
  const y = (share) => 8 + ((highest - share) / (highest - lowest || 1)) * (TALL - 40);
  const label = (share) => svg("text", { class: "tick", x: PAD - 6, y: y(share) + 4, "text-anchor": "end" }, `${Math.round(100 * share)} %`);
  return svg("svg", { class: "curve", viewBox: `0 0 ${WIDE} ${TALL}`, width: WIDE, height: TALL, "aria-hidden": "true" },
    [lowest, highest].map((share) => [svg("line", { class: "zero", x1: PAD, x2: WIDE - 12, y1: y(share), y2: y(share) }), label(share)]),
    svg("polyline", { class: "path", points: rows.map((row) => `${x(row.overlap)},${y(row.predicts)}`).join(" ") }),
    rows.map((row) => [
      svg("line", { class: "range", x1: x(row.overlap), x2: x(row.overlap), y1: y(row.low), y2: y(row.high) }),
      svg("circle", { class: "middle", cx: x(row.overlap), cy: y(row.predicts), r: 4 }),
      svg("text", { class: "tick", x: x(row.overlap), y: TALL - 6, "text-anchor": "middle" }, row.overlap),
    ]));
}

function budget(agreement) {
  const rows = agreement.rows.map((row) => ({
    overlap: row.overlap, judgments: row.judgments, pairs: row.pairs, predicts: { share: row.predicts, low: row.low, high: row.high }, undecided: { share: row.open },
  }));
  return h("section", { class: "card" }, h("h2", {}, "What fewer judgments would have bought"),
    h("p", { class: "muted" }, "From each pair one verdict is set aside, and so many of the others predict it. Where the curve is flat, more judgments of one pair tell little: judge more pairs."),
    rows.length ? [h("div", { class: "scroll" }, curve(agreement.rows)), table("Judgments of each pair", rows)] : h("p", {}, `Not to be said yet: ${agreement.reason}.`));
}

/** Agreement by kind of task, and the label-budget curve. */
export async function agreementPanel(panel, project) {
  const [agreement, overlap] = await Promise.all(["agreement", "overlap"].map((page) => get(`/projects/${seg(project)}/quality/${page}`)));
  show(panel, h("p", { class: "lead" }, "How far annotators say the same, corrected for chance, with 95 % intervals over items."), surplus(agreement),
    report("Agreement", { rows: agreement.rows }, "Not enough judgments yet."), budget(overlap));
}
