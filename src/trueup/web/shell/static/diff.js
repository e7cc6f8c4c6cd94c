// Differences between two texts, by word. Longest common subsequence after trimming what both share at the ends.

const MOST_CELLS = 4_000_000;

/** Words, spaces and signs of a text; Intl.Segmenter also finds words where no spaces are written. */
export function tokens(text) {
  if (typeof Intl.Segmenter !== "function") return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];
  return [...new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)].map((part) => part.segment);
}

function lines(text) {
  return text.match(/[^\n]*\n|[^\n]+$/gu) ?? [];
}

/**
 * What to do to turn one text into another.
 * @returns {Array<{how: "same"|"gone"|"new", text: string}>} neighbours of one kind are joined
 */
export function diff(before, after) {
  let [a, b] = [tokens(before), tokens(after)];
  // Long and very different texts are compared by line: a page that hangs helps nobody.
  if (a.length * b.length > MOST_CELLS) [a, b] = [lines(before), lines(after)];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail += 1;
  const middle = [a.slice(head, a.length - tail), b.slice(head, b.length - tail)];
  return join([
    ...a.slice(0, head).map((text) => ({ how: "same", text })),
    ...walk(...middle),
    ...a.slice(a.length - tail).map((text) => ({ how: "same", text })),
  ]);
}

function walk(a, b) {
  if (a.length * b.length > MOST_CELLS) {
    return [...a.map((text) => ({ how: "gone", text })), ...b.map((text) => ({ how: "new", text }))];
  }
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] =
        a[i] === b[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const steps = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      steps.push({ how: "same", text: a[i] });
      [i, j] = [i + 1, j + 1];
    } else if (i < a.length && (j === b.length || longest[(i + 1) * width + j] >= longest[i * width + j + 1])) {
      steps.push({ how: "gone", text: a[i] });
      i += 1;
    } else {
      steps.push({ how: "new", text: b[j] });
      j += 1;
    }
  }
  return steps;
}

function join(steps) {
  const joined = [];
  for (const step of steps) {
    if (joined.at(-1)?.how === step.how) joined.at(-1).text += step.text;
    else joined.push({ ...step });
  }
  return joined;
}
