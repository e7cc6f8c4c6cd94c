// The sign-in page.

import { Offline, Problem, login, words } from "./shell/api.js";
import { field, h, show } from "./shell/dom.js";
import { main, themeSwitch } from "./shell/page.js";

/** Only a path of this site is a place to go on to. */
function onward() {
  const next = new URLSearchParams(location.search).get("next") ?? "/";
  const url = new URL(next, location.origin);
  return url.origin === location.origin && next.startsWith("/") ? url.pathname + url.hash : "/";
}

function why(error) {
  if (error instanceof Offline) return "No connection to the server.";
  if (error instanceof Problem && error.status === 401) return "Handle and password do not match.";
  if (error instanceof Problem && error.status === 429) {
    return `Too many tries. Wait ${error.retryAfter ?? 60} seconds, then try again.`;
  }
  return words(error);
}

const handle = h("input", { autocomplete: "username", required: true, autocapitalize: "none", spellcheck: "false" });
const password = h("input", { type: "password", autocomplete: "current-password", required: true });
const failed = h("p", { class: "missing", role: "alert" });
const enter = h("button", { type: "submit", class: "primary" }, "Sign in");
const form = h("form", { class: "card narrow", "aria-labelledby": "sign-in" },
  h("h1", { id: "sign-in" }, "Sign in"),
  h("p", { class: "lead" }, "Feedback room"),
  field("Handle", handle), field("Password", password), failed, enter);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  enter.disabled = true;
  failed.textContent = "";
  try {
    await login(handle.value.trim(), password.value);
    location.assign(onward());
  } catch (error) {
    failed.textContent = why(error);
    password.value = "";
    password.focus();
  } finally {
    enter.disabled = false;
  }
});

show(document.getElementById("account"), themeSwitch());
show(main(), form);
document.title = "Sign in · trueup";
handle.focus();
