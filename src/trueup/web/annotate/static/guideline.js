// The guideline of a project: shown, and acknowledged once for each version.
// Its HTML is made and sanitised by the server; it is the only HTML that these pages ever show, and is checked again.

import { get, post, seg } from "./shell/api.js";
import { ask } from "./shell/dialog.js";
import { h } from "./shell/dom.js";

const ALLOWED = new Set([
  "A", "B", "BLOCKQUOTE", "BR", "CODE", "DD", "DEL", "DIV", "DL", "DT", "EM", "H1", "H2", "H3", "H4", "H5", "H6", "HR",
  "I", "INS", "KBD", "LI", "OL", "P", "PRE", "S", "SPAN", "STRONG", "SUB", "SUP", "TABLE", "TBODY", "TD", "TH", "THEAD", "TR", "U", "UL",
]);

/** Nodes from sanitised HTML. Anything outside the short list of tags is left out, and so is every attribute. */
export function trusted(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const copy = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return document.createTextNode(node.data);
    if (node.nodeType !== Node.ELEMENT_NODE || !ALLOWED.has(node.tagName)) return null;
    const props = {};
    const href = node.tagName === "A" ? node.getAttribute("href") ?? "" : "";
    if (/^https?:\/\//i.test(href)) Object.assign(props, { href, rel: "noopener noreferrer nofollow", target: "_blank" });
    return h(node.tagName.toLowerCase(), props, [...node.childNodes].map(copy));
  };
  return h("article", { class: "guideline", dir: "auto" }, [...parsed.body.childNodes].map(copy));
}

/** The newest guideline, or null when the project has none. */
export async function newest(project) {
  return get(`/projects/${seg(project)}/guideline`);
}

/** Records that this person has read a version. */
export function acknowledge(id) {
  return post(`/guidelines/${seg(id)}/ack`);
}

/** Shows the guideline over the present work. */
export async function consult(project) {
  const guideline = await newest(project);
  const content = guideline ? trusted(guideline.html) : h("p", {}, "This project has no guideline yet.");
  return ask(guideline ? `Guideline, version ${guideline.number}` : "Guideline", [content], { className: "wide" });
}
