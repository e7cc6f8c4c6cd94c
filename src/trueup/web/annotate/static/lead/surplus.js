// What quality pages say of answers that they do not count.

import { h } from "../shell/dom.js";

/** How many answers came after their hold had ended, or nothing where there are none. */
export const surplus = (report) => (report.surplus ? h("p", { class: "muted" },
  `${report.surplus} ${report.surplus === 1 ? "answer" : "answers"} came after the hold on the item had ended (surplus): kept, and not counted here.`) : null);
