// Who somebody is here. A token in the address becomes a session of this browser; where reading takes one too and none
// came, a form asks for it.

import { carry, me, post, words } from "./shell/api.js";
import { field, h } from "./shell/dom.js";

/** Takes the token out of the address, so that no copied link holds it. Throws where this browser may not even read. */
export async function enter() {
  const query = new URLSearchParams(location.hash.slice(1));
  const token = query.get("token");
  if (!token) return me();
  query.delete("token");
  history.replaceState(null, "", `${location.pathname}${String(query) && `#${query}`}`);
  try {
    return await begin(token);
  } catch (error) {
    if (error.status === 401) await me(); // throws in its turn where reading takes a token
    throw error;
  }
}

async function begin(token) {
  const who = await post("/session", { token });
  carry(who.csrf ?? "");
  return who;
}

/** What whoever has no token sees. */
export function door(done) {
  const token = h("input", { type: "password", autocomplete: "off", required: true });
  const wrong = h("p", { class: "missing", role: "alert" });
  const form = h("form", {}, field("Token", token), wrong, h("button", { type: "submit", class: "primary" }, "Open"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await begin(token.value.trim().replace(/^.*#token=/u, ""));
      done();
    } catch (error) {
      wrong.textContent = words(error);
    }
  });
  return h("section", { class: "card centre" }, h("h1", {}, "This explorer takes a token"),
    h("p", {}, "Open the address that ", h("code", {}, "trueup explore"), " told when it started, with all that stands behind #, or paste it here."), form);
}
