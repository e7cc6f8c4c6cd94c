// The phase plane: reward over the square root of the KL, one path for each run, coloured by step; beside the path of
// one run what it is compared with, gold on an axis of its own.

import { h, show, svg, uid } from "./shell/dom.js";
import { colour } from "./chart.js";
import { number, plain } from "./format.js";
import { drawn, extent, key } from "./reference.js";

const [NARROW, WIDE, HEIGHT] = [300, 620, 340];
const EDGE = { left: 58, right: 14, top: 20, bottom: 44 };

function parts(text) {
  return text.match(/[\d.]+/gu).slice(0, 3).map(Number);
}

function mixed(from, to, share) {
  const [a, b] = [parts(from), parts(to)];
  return `rgb(${a.map((value, n) => Math.round(value + share * (b[n] - value))).join(",")})`;
}

/** Round values between two ends. */
function ticks(low, high, count) {
  const raw = (high - low || 1) / count;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((by) => by * size).find((value) => value >= raw);
  const list = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step) list.push(Number(value.toPrecision(12)));
  return list;
}

/** Where values between two ends stand, with room above and below; `ends` are those of the axis. */
function upright([low, high]) {
  const room = (high - low || 1) * 0.08;
  const y = (value) => HEIGHT - EDGE.bottom - ((value - low + room) / (high - low + 2 * room)) * (HEIGHT - EDGE.top - EDGE.bottom);
  return Object.assign(y, { ends: [low - room, high + room] });
}

/**
 * @param {{title: string, runs: () => Array<{label: string, points: object[], ink?: string}>, pick?: (run: string, step: number) => void}} options
 *   with `ink` a run has one colour, without it its points are coloured by step; `beside` gives the lines of
 *   `references` and `told` the sentences about them
 */
export class Phase {
  constructor(options) {
    this.options = options;
    this.place = h("div", { class: "phase" });
    this.words = h("p", { class: "hint" });
    this.table = h("div", {});
    this.key = h("div", {});
    this.notes = h("div", {});
    this.more = h("details", { class: "twin" }, h("summary", {}, "Words and table"), this.words, this.table);
    this.more.addEventListener("toggle", () => this.draw());
    this.element = h("figure", { class: "chart" }, h("figcaption", {}, h("h3", {}, options.title)),
      h("div", { class: "beside" }, h("div", {}, this.place, this.key), h("div", { class: "reading-help" },
        h("p", {}, "Right is further from the reference, up is more reward."),
        h("p", {}, "A healthy run climbs steeply, then stands still."),
        h("p", {}, "A path that goes right and no longer up pays KL for nothing; one that bends down is over-optimised: the reward model is gamed or worn out."))), this.notes, this.more);
  }

  draw() {
    const runs = this.options.runs().filter((run) => run.points.length);
    const points = runs.flatMap((run) => run.points);
    if (!points.length) {
      show(this.place, h("p", { class: "muted" }, "No step has both a reward and a KL yet."));
      return;
    }
    const beside = this.options.beside?.() ?? [];
    const sentences = this.options.told?.(beside) ?? [];
    const own = extent(beside, "reward") ?? [Infinity, -Infinity];
    const right = Math.max(...points.map((point) => point.x), ...beside.flatMap((line) => line.points.map((point) => point.x))) || 1;
    const ends = [Math.min(own[0], ...points.map((point) => point.y)), Math.max(own[1], ...points.map((point) => point.y))];
    const gold = extent(beside, "gold");
    this.width = Math.min(Math.max(this.place.clientWidth, NARROW), WIDE);
    this.right = gold ? EDGE.left : EDGE.right;
    const x = (value) => EDGE.left + (value / (right * 1.04)) * (this.width - EDGE.left - this.right);
    const [y, up] = [upright(ends), gold && upright(gold)];
    const text = [...runs.map(({ label, points: path }) => `${label}: ${path.length} points, from reward ${number(path[0].y)} at KL ${number(path[0].kl)} ` +
      `(step ${path[0].step}) to reward ${number(path.at(-1).y)} at KL ${number(path.at(-1).kl)} (step ${path.at(-1).step}).`), ...sentences].join(" ");
    this.words.textContent = text;
    show(this.place, svg("svg", { viewBox: `0 0 ${this.width} ${HEIGHT}`, role: "img", "aria-label": `${this.options.title}. ${text}` },
      this.frame(x, y, right, up), beside.map((line) => drawn(line, x, line.axis === "gold" ? up : y)), runs.map((run) => this.path(run, x, y)), this.scale(runs)));
    show(this.key, beside.length > 0 && key(beside));
    show(this.notes, sentences.map((sentence) => h("p", { class: "hint" }, sentence)));
    if (this.more.open) this.tabulate(runs, beside);
  }

  frame(x, y, right, gold) {
    const [line, ink] = [colour("line"), colour("muted")];
    const across = ticks(0, right, this.width > 450 ? 6 : 3).map((value) => [
      svg("line", { x1: x(value), x2: x(value), y1: EDGE.top, y2: HEIGHT - EDGE.bottom, stroke: line }),
      svg("text", { x: x(value), y: HEIGHT - EDGE.bottom + 16, fill: ink, "font-size": 12, "text-anchor": "middle" }, plain(value))]);
    const up = ticks(...y.ends, 5).map((value) => [
      svg("line", { x1: EDGE.left, x2: this.width - this.right, y1: y(value), y2: y(value), stroke: line }),
      svg("text", { x: EDGE.left - 8, y: y(value) + 4, fill: ink, "font-size": 12, "text-anchor": "end" }, plain(value))]);
    const named = gold && [ticks(...gold.ends, 5).map((value) =>
      svg("text", { x: this.width - this.right + 8, y: gold(value) + 4, fill: ink, "font-size": 12 }, plain(value))),
    svg("text", { x: this.width - 4, y: 12, fill: ink, "font-size": 12, "text-anchor": "end" }, "gold"),
    svg("text", { x: 4, y: 12, fill: ink, "font-size": 12 }, "reward")];
    return [across, up, named,
      svg("text", { x: this.width - (this.width > 450 ? this.right : 4), y: HEIGHT - 8, fill: ink, "font-size": 12, "text-anchor": "end" }, "√KL, in √nats")];
  }

  path({ label, points, ink }, x, y) {
    const [from, to] = ink ? [colour(ink), colour(ink)] : [colour("left"), colour("right")];
    const line = svg("polyline", { points: points.map((point) => `${x(point.x).toFixed(1)},${y(point.y).toFixed(1)}`).join(" "), fill: "none",
      stroke: ink ? from : colour("muted"), "stroke-width": ink ? 1.5 : 1, "stroke-opacity": ink ? 0.6 : 0.4 });
    return [line, points.map((point, n) => {
      const last = n === points.length - 1;
      const dot = svg("circle", { cx: x(point.x).toFixed(1), cy: y(point.y).toFixed(1), r: last ? 6 : 3.5, fill: mixed(from, to, n / Math.max(points.length - 1, 1)),
        ...(last ? { stroke: colour("ink"), "stroke-width": 1.5 } : {}), class: this.options.pick ? "picks" : "" },
      svg("title", {}, `${label}, step ${point.step}: reward ${number(point.y)}, KL ${number(point.kl)}`));
      if (this.options.pick) dot.addEventListener("click", () => this.options.pick(label, point.step));
      return dot;
    })];
  }

  scale(runs) {
    if (runs.length !== 1 || runs[0].ink) return null;
    const { points } = runs[0];
    const id = uid("steps");
    const [ink, wide] = [colour("muted"), this.width > 450 ? 90 : 50];
    return [svg("defs", {}, svg("linearGradient", { id }, svg("stop", { offset: 0, "stop-color": colour("left") }), svg("stop", { offset: 1, "stop-color": colour("right") }))),
      svg("rect", { x: EDGE.left, y: HEIGHT - 17, width: wide, height: 9, rx: 4, fill: `url(#${id})` }),
      svg("text", { x: EDGE.left + wide + 8, y: HEIGHT - 8, fill: ink, "font-size": 12 }, `steps ${points[0].step} to ${points.at(-1).step}${this.width > 450 ? ", ringed: the newest" : ""}`)];
  }

  tabulate(runs, beside) {
    const several = runs.length > 1 || beside.length > 0;
    const head = [several && h("th", { scope: "col" }, beside.length ? "What" : "Run"), h("th", { scope: "col", class: beside.length ? "" : "number" }, beside.length ? "Where" : "Step"),
      h("th", { scope: "col", class: "number" }, "KL"), h("th", { scope: "col", class: "number" }, beside.length ? "Value" : "Reward")];
    const row = (what, where, kl, value) => h("tr", {}, several && h("td", {}, h("bdi", {}, what)), h("td", { class: beside.length ? "" : "number" }, where), h("td", { class: "number" }, number(kl)), h("td", { class: "number" }, number(value)));
    const newest = (points) => points.toReversed().slice(0, 100);
    show(this.table, h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `${this.options.title}, as a table` },
      h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {},
        beside.map((line) => newest(line.points).map((point) => row(line.name, point.at, point.kl, point.y))),
        runs.map((run) => newest(run.points).map((point) => row(beside.length ? "reward" : run.label, beside.length ? `step ${point.step}` : number(point.step), point.kl, point.y)))))));
  }
}
