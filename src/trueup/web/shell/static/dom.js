// Elements from data. Text only ever becomes a text node: there is no way to hand this module HTML.

/**
 * One element.
 * @param {string} tag
 * @param {object} props attributes; `on` holds listeners, `data` holds data-* values, booleans become bare attributes
 * @param {...(Node|string|number|null|undefined|Array)} children
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "data") Object.assign(element.dataset, value || {});
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return fill(element, ...children);
}

/** Appends children; strings and numbers become text nodes, null and false vanish. */
export function fill(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** Replaces everything in an element. */
export function show(element, ...children) {
  element.replaceChildren();
  return fill(element, ...children);
}

const SVG = "http://www.w3.org/2000/svg";

/** One SVG element, for the small charts. */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, String(value));
  return fill(element, ...children);
}

let serial = 0;

/** An id that no other element of this page has. */
export function uid(stem) {
  serial += 1;
  return `${stem}-${serial}`;
}

/** A button that submits nothing by itself. */
export function button(label, press, props = {}) {
  return h("button", { type: "button", ...props, on: { click: press } }, label);
}

/** The key cap of an action, to be filled by `Keys.paint`; screen readers hear `aria-keyshortcuts` instead. */
export function cap(action) {
  return h("kbd", { "aria-hidden": "true", data: { action } });
}

/** A labelled control: label above, hint below, both tied to it. */
export function field(label, control, hint = "") {
  control.id ||= uid("field");
  const note = hint ? h("small", { id: `${control.id}-hint`, class: "hint" }, hint) : null;
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, note);
}

/**
 * A real radio group.
 * @param {string} legend
 * @param {Array<{value: string, label: string, action?: string, hint?: string}>} options
 * @param {(value: string) => void} picked
 */
export function radios(legend, options, picked, { className = "choices", hideLegend = false } = {}) {
  const name = uid("group");
  const inputs = new Map();
  const set = h("fieldset", { class: className }, h("legend", { class: hideLegend ? "unseen" : null }, legend));
  const row = h("div", { class: "options" });
  for (const option of options) {
    const input = h("input", { type: "radio", name, id: uid("radio"), data: option.action && { shortcut: option.action } });
    input.value = option.value;
    input.addEventListener("change", () => picked(option.value));
    inputs.set(option.value, input);
    const text = h("span", { class: "option-label" }, option.label, option.hint && h("small", {}, option.hint));
    row.append(h("label", { class: "option", for: input.id, data: option.data }, input, option.action && cap(option.action), text));
  }
  set.append(row);
  return {
    element: set,
    get: () => [...inputs].find(([, input]) => input.checked)?.[0] ?? null,
    /** Chooses without firing `picked`; null clears. */
    set: (value) => inputs.forEach((input, key) => (input.checked = key === value)),
    focus: () => ([...inputs.values()].find((input) => input.checked) ?? [...inputs.values()][0]).focus(),
    inputs,
  };
}
