// Changing one's own password.

import { Problem, post, words } from "./api.js";
import { button, field, h, uid } from "./dom.js";

const control = (autocomplete) => h("input", { type: "password", autocomplete, required: true, maxlength: "200" });

/** Asks for the old and the new password and sends them. Returns whether it was changed. */
export function changePassword(person) {
  const [old, fresh, again] = [control("current-password"), control("new-password"), control("new-password")];
  const heading = h("h2", { id: uid("dialog") }, "Change your password");
  const failed = h("p", { class: "missing", role: "alert" });
  const element = h("dialog", { "aria-labelledby": heading.id });
  const cancel = button("Cancel", () => element.close(), { class: "quiet" });
  const accept = h("button", { type: "submit", class: "primary" }, "Change it");
  const form = h("form", { method: "dialog" }, h("header", {}, heading),
    h("div", { class: "dialog-body" },
      h("p", {}, "Your other sessions and all your tokens end; this session goes on."),
      // Password managers look for the name that the password belongs to.
      h("input", { type: "text", autocomplete: "username", value: person.handle, hidden: true }),
      field("Password of today", old),
      field("New password", fresh, "12 characters or more; four words that have nothing to do with each other are good."),
      field("New password again", again)),
    h("footer", {}, failed, cancel, accept));
  element.append(form);
  document.body.append(element);
  return new Promise((resolve) => {
    let changed = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      failed.textContent = fresh.value === again.value ? "" : "The two new passwords differ.";
      if (failed.textContent) return;
      accept.disabled = true;
      try {
        await post("/auth/password", { old: old.value, new: fresh.value });
        changed = true;
        element.close();
      } catch (error) {
        failed.textContent = error instanceof Problem && error.status === 429
          ? `Too many tries. Wait ${error.retryAfter ?? 60} seconds, then try again.` : words(error);
      } finally {
        accept.disabled = false;
      }
    });
    element.addEventListener("close", () => {
      element.remove();
      resolve(changed);
    });
    element.showModal();
    old.focus();
  });
}
