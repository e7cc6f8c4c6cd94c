// A text in which stretches can be selected and marked, by keyboard as by mouse. Offsets are Unicode code points.

import { h, show } from "./shell/dom.js";
import { points, reveal, unitOf } from "./shell/text.js";

/** The text cut at every span's ends: [{from, to, spans: [index, ...]}], in UTF-16 offsets. */
function cut(text, spans) {
  const units = spans.map((span) => [unitOf(text, span.start), unitOf(text, span.end)]);
  const edges = [...new Set([0, text.length, ...units.flat()])].sort((a, b) => a - b);
  return edges.slice(0, -1).map((from, n) => ({
    from,
    to: edges[n + 1],
    spans: units.flatMap(([start, end], index) => (start <= from && edges[n + 1] <= end ? [index] : [])),
  }));
}

/**
 * A read-only text field with a caret. It is an editable region that refuses every edit, because a read-only
 * textarea shows neither a caret nor marks.
 */
export class Marking {
  constructor(text, label) {
    this.text = text;
    this.spans = [];
    this.element = h("div", {
      class: "prose marking", dir: "auto", contenteditable: "true", role: "textbox", "aria-multiline": "true",
      "aria-readonly": "true", "aria-label": label, tabindex: "0", spellcheck: "false", autocapitalize: "none",
      inputmode: "none", data: { reading: "" },
    });
    this.element.addEventListener("beforeinput", (event) => event.preventDefault());
    this.element.addEventListener("drop", (event) => event.preventDefault());
    // An input method may write all the same; the text is then drawn anew.
    this.element.addEventListener("input", () => this.draw());
    this.draw();
  }

  draw() {
    show(this.element, cut(this.text, this.spans).map(({ from, to, spans }) => {
      const nodes = reveal(this.text.slice(from, to));
      return spans.length ? h("mark", { class: "span", data: { n: spans.map((n) => n + 1).join(" ") } }, nodes) : nodes;
    }));
  }

  setSpans(spans) {
    this.spans = spans;
    this.draw();
  }

  /** The selected stretch in code points, or null when nothing in this text is selected. */
  selected() {
    const selection = document.getSelection();
    if (!selection?.rangeCount) return null;
    const range = selection.getRangeAt(0);
    if (range.collapsed || !this.element.contains(range.startContainer) || !this.element.contains(range.endContainer)) return null;
    const upto = (node, offset) => {
      const before = document.createRange();
      before.setStart(this.element, 0);
      before.setEnd(node, offset);
      return points(before.toString());
    };
    const [start, end] = [upto(range.startContainer, range.startOffset), upto(range.endContainer, range.endOffset)];
    return start < end ? { start, end } : null;
  }

  /** The text of a span. */
  quote({ start, end }) {
    return this.text.slice(unitOf(this.text, start), unitOf(this.text, end));
  }

  /** Sets the caret (code points) and the focus: back to where marking went on. */
  focus(at = 0) {
    this.element.focus();
    let left = unitOf(this.text, at);
    const walker = document.createTreeWalker(this.element, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (left <= node.length) return document.getSelection().collapse(node, left);
      left -= node.length;
    }
    return undefined;
  }
}
