// What all pages share: who is signed in, the header, notices, the save state.

import { logout, me, words } from "./api.js";
import { button, h, show } from "./dom.js";
import { changePassword } from "./password.js";
import { keep, onBroken } from "./storage.js";

const RANK = { viewer: 0, annotator: 1, adjudicator: 2, lead: 3, admin: 4 };

/** Whether a role may do what `least` may do. */
export function atLeast(person, least) {
  return RANK[person.role] >= RANK[least];
}

export const main = () => document.getElementById("main");

/** Says something to screen readers without showing it. */
export function announce(text) {
  const place = document.getElementById("announce");
  place.textContent = "";
  // An emptied live region that is filled in the same frame is not read again.
  requestAnimationFrame(() => (place.textContent = text));
}

/** Shows what became of the work, politely. `tone` is "", "busy", "good" or "warn". */
export function saveState(text, tone = "") {
  const place = document.getElementById("save-state");
  if (place.textContent !== text) place.textContent = text;
  place.dataset.tone = tone;
}

/** A notice that stays until it is closed. */
export function notify(text, tone = "info") {
  const place = document.getElementById("notices");
  const line = h("div", { class: "notice", data: { tone }, role: tone === "bad" ? "alert" : "status" });
  place.append(line);
  show(line, h("p", {}, text), button("Close", () => line.remove(), { class: "small quiet" }));
  return line;
}

/** Runs something that a person started; an error becomes a notice. Returns undefined on an error. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    notify(words(error), "bad");
    if (error.name === "TypeError" || error.name === "ReferenceError") throw error;
    return undefined;
  }
}

/** The id in `/annotate/{id}` and its like. */
export function idInPath() {
  return decodeURIComponent(location.pathname.split("/")[2] ?? "");
}

function toLogin() {
  location.assign(`/login?next=${encodeURIComponent(location.pathname + location.hash)}`);
}

/**
 * Opens a page: finds out who is here (or goes to the sign-in page) and draws the header.
 * @param {string} title
 * @param {(person: object) => [string, string][]} links address and name of each place in the header
 * @returns {Promise<object>} the person
 */
export async function open(title, links) {
  onBroken(() => notify("This browser keeps nothing: drafts and unsent work would be lost if you leave.", "warn"));
  window.addEventListener("trueup:signed-out", toLogin, { once: true });
  let person;
  try {
    person = await me();
  } catch (error) {
    if (error.status === 401) return new Promise(() => {}); // on the way to the sign-in page
    await unreachable(error);
    return open(title, links);
  }
  document.title = `${title} · trueup`;
  header(person, links(person));
  return person;
}

/** Waits, with a way to try again, until the server may be there. */
function unreachable(error) {
  return new Promise((again) => {
    const retry = () => {
      window.removeEventListener("online", retry);
      again();
    };
    window.addEventListener("online", retry);
    show(main(), h("section", { class: "card centre" }, h("h1", {}, "No connection"), h("p", {}, words(error)),
      h("p", {}, "What you wrote is kept in this browser."), button("Try again", retry, { class: "primary" })));
  });
}

function header(person, links) {
  show(document.getElementById("nav"), links.map(([href, label]) =>
    h("a", { href, "aria-current": location.pathname === href ? "page" : null }, label)));
  const out = button("Sign out", () => attempt(async () => {
    await logout();
    location.assign("/login");
  }), { class: "small quiet" });
  show(document.getElementById("account"),
    themeSwitch(),
    h("span", { class: "who" }, h("bdi", {}, person.handle), h("small", {}, person.role), person.simulated && badge("simulated")),
    button("Password", async () => {
      if (await changePassword(person)) notify("Your password is changed. Other sessions and your tokens are ended.", "good");
    }, { class: "small quiet", "aria-haspopup": "dialog" }),
    out);
}

/** A small label; `simulated` work is always marked as such. */
export function badge(text, tone = text) {
  return h("span", { class: "badge", data: { tone } }, text);
}

/** Light, dark, or as the system says. */
export function themeSwitch() {
  const select = h("select", { "aria-label": "Colours", class: "small" },
    [["", "System"], ["light", "Light"], ["dark", "Dark"]].map(([value, label]) => h("option", { value }, label)));
  select.value = document.documentElement.dataset.theme ?? "";
  select.addEventListener("change", () => {
    if (select.value) document.documentElement.dataset.theme = select.value;
    else delete document.documentElement.dataset.theme;
    try {
      localStorage.setItem("trueup.theme", select.value);
    } catch {
      keep("theme", select.value); // reports that nothing can be kept
    }
  });
  return select;
}
