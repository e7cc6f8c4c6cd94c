// A page of the feedback room: the shell's page, with what was left unsent on its way.

import { Outbox } from "./outbox.js";
import { open as openPage, saveState } from "./shell/page.js";
import { recall } from "./shell/storage.js";
import { unsentNotice } from "./unsent.js";

const links = (person) => [["/", "Projects"], ["/admin", person.role === "admin" ? "Administration" : "Tokens"]];

/**
 * Opens a page of the room and sends what was left unsent.
 * @returns {Promise<{person: object, outbox: Outbox}>}
 */
export async function open(title) {
  const person = await openPage(title, links);
  const outbox = new Outbox(person.id);
  outbox.watch(({ pending, state }) => {
    if (state === "sending") saveState("Sending…", "busy");
    if (state === "sent" && pending === 0) saveState("All work is saved", "good");
    if (state === "waiting") saveState(`Kept on this device, not sent yet (${pending})`, "warn");
    if (state === "refused") saveState("Not taken by the server, kept on this device", "warn");
  });
  unsentNotice(outbox, document.getElementById("notices"));
  outbox.flush();
  return { person, outbox };
}

/** Whether the person agreed to take part in a project, in this browser. */
export const consented = (person, project) => recall(`consent.${person.id}.${project}`, null) !== null;
