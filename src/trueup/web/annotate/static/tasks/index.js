// The task kinds. Each module makes one screen from an assignment:
//   element            what to put on the page
//   actions            action id -> function, for the keys
//   read(note)         {answer} in the form of the server, or {missing: what still has to be done}
//   state(), restore() the unfinished answer as JSON, for drafts and corrections
//   usesNote           whether the written reason is part of the answer (`note`)

import { binary } from "./binary.js";
import { critique } from "./critique.js";
import { edit } from "./edit.js";
import { pairwise } from "./pairwise.js";
import { ranking } from "./ranking.js";
import { rating } from "./rating.js";
import { redteam } from "./redteam.js";
import { review } from "./review.js";

const MAKERS = { pairwise, ranking, binary, rating, critique, edit, redteam, review };

/**
 * The screen of a task.
 * @param {object} assignment as the server gives it
 * @param {{changed: () => void, say: (text: string) => void}} hooks `changed` after every change of the answer
 */
export function makeTask(assignment, hooks) {
  const make = MAKERS[assignment.kind];
  if (!make) throw new Error(`this page does not know the task kind “${assignment.kind}”: reload to get the newest version`);
  return make(assignment, hooks);
}
