// Text that may be hostile. It is shown as it is, with every character that hides or reorders text made visible.

const NAMES = new Map([
  [0x00ad, "SHY"], [0x034f, "CGJ"], [0x061c, "ALM"], [0x115f, "HCF"], [0x1160, "HJF"], [0x180e, "MVS"],
  [0x200b, "ZWSP"], [0x200c, "ZWNJ"], [0x200d, "ZWJ"], [0x200e, "LRM"], [0x200f, "RLM"], [0x2028, "LS"], [0x2029, "PS"],
  [0x202a, "LRE"], [0x202b, "RLE"], [0x202c, "PDF"], [0x202d, "LRO"], [0x202e, "RLO"], [0x2060, "WJ"],
  [0x2066, "LRI"], [0x2067, "RLI"], [0x2068, "FSI"], [0x2069, "PDI"], [0x3164, "HF"], [0xfeff, "BOM"], [0xffa0, "HHF"],
]);

const HIDDEN =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** Short name of a hidden character: "ZWSP", or "U+E0041" for one without a usual name. */
export function hiddenName(character) {
  const point = character.codePointAt(0);
  return NAMES.get(point) ?? `U+${point.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** A joiner between two pictures makes one picture (a family, a flag): that is its honest use. */
function joinsPictures(text, at) {
  return /\p{Extended_Pictographic}[\u{fe0f}\u{1f3fb}-\u{1f3ff}]?$/u.test(text.slice(Math.max(0, at - 6), at)) &&
    /^\p{Extended_Pictographic}/u.test(text.slice(at + 1, at + 4));
}

/**
 * Nodes for a text. Every hidden character stays in the text, alone in an isolated element whose name is drawn by the
 * style sheet: so it has no effect on its neighbours, and offsets into the text stay true.
 */
export function reveal(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match[0] === "\u200d" && joinsPictures(text, match.index)) continue;
    if (match.index > from) nodes.push(document.createTextNode(text.slice(from, match.index)));
    const mark = document.createElement("bdi");
    mark.className = "hidden-char";
    mark.dataset.name = hiddenName(match[0]);
    mark.title = `hidden character ${mark.dataset.name}`;
    mark.textContent = match[0];
    nodes.push(mark);
    from = match.index + match[0].length;
  }
  if (from < text.length || nodes.length === 0) nodes.push(document.createTextNode(text.slice(from)));
  return nodes;
}

/** Names of the hidden characters of a text, each once, with how often: for fields that cannot show marks. */
export function hiddenIn(text) {
  const counts = new Map();
  for (const match of text.matchAll(HIDDEN)) {
    if (match[0] === "\u200d" && joinsPictures(text, match.index)) continue;
    const name = hiddenName(match[0]);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

/** Length in Unicode code points, which is how the server counts; JavaScript's own length counts UTF-16 units. */
export function points(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/** UTF-16 offset of a code-point offset. */
export function unitOf(text, point) {
  let unit = 0;
  for (const character of text) {
    if (point <= 0) break;
    unit += character.length;
    point -= 1;
  }
  return unit;
}

/** A text shortened to `most` code points, on one line. */
export function brief(text, most = 80) {
  const line = [...text.replace(/\s+/gu, " ").trim()];
  return line.length > most ? `${line.slice(0, most - 1).join("")}…` : line.join("");
}

/** "3 words" and the like, for a panel's foot. */
export function measure(text) {
  const words = text.trim() ? text.trim().split(/\s+/u).length : 0;
  return `${words.toLocaleString("en")} ${words === 1 ? "word" : "words"}`;
}
