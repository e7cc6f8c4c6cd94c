// One answer token by token: how surprising each was to the reference, or how open the choice was before it.

import { h } from "./shell/dom.js";
import { reveal } from "./shell/text.js";

export const LAYERS = [["", "Words"], ["log_ratio", "Log-ratio to the reference"], ["entropy", "Entropy"]];
const STEPS = { log_ratio: [0.1, 0.5, 1, 2], entropy: [0.25, 0.75, 1.5, 3] };
/** What the colours mean. */
export const SAYS = {
  log_ratio: "Blue: more likely than to the reference. Orange: less likely. Darker from 0.1, 0.5, 1 and 2 nats on.",
  entropy: "The darker, the more open the choice was: from 0.25, 0.75, 1.5 and 3 nats on.",
};

/** Which step of the scale a value reaches, 0 to 4. */
function level(layer, value) {
  return typeof value === "number" ? STEPS[layer].filter((bound) => Math.abs(value) >= bound).length : 4;
}

const SHORT = { log_ratio: "Log-ratio", entropy: "Entropy" };
const written = (layer, value) => (typeof value !== "number" ? String(value) : `${layer === "log_ratio" && value > 0 ? "+" : ""}${value.toFixed(3).replace("-", "−")}`);

/** A token that has no text of its own is part of a character that ends later. */
const shown = (text) => (text === "" ? "·" : text);

/** The tokens in colours, and the same as a table. */
export function strip(tokens, layer) {
  const values = tokens[layer];
  const spans = tokens.text.map((text, n) => h("span", {
    class: "token", title: `${written(layer, values[n])} nats`,
    data: { level: level(layer, values[n]), side: layer === "log_ratio" && values[n] < 0 ? "less" : "more" },
  }, reveal(shown(text))));
  const names = Object.keys(SHORT).filter((name) => tokens[name]);
  const rows = tokens.text.map((text, n) => h("tr", {}, h("td", { class: "number" }, n + 1), h("th", { scope: "row" }, h("bdi", {}, reveal(shown(text)))),
    names.map((name) => h("td", { class: "number" }, written(name, tokens[name][n])))));
  return [h("p", { class: "answer strip", dir: "auto", data: { layer } }, spans),
    h("details", { class: "twin" }, h("summary", {}, "Tokens as a table"), h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Tokens" },
      h("table", {}, h("thead", {}, h("tr", {}, ["No.", "Token", ...names.map((name) => SHORT[name])].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows))))];
}
