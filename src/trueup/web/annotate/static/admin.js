// Administration: people, one's own access tokens, the audit log.

import { get, patch, post, remove, seg, words } from "./shell/api.js";
import { ask } from "./shell/dialog.js";
import { button, field, h, show } from "./shell/dom.js";
import { open } from "./room.js";
import { announce, attempt, main, notify } from "./shell/page.js";
import { table } from "./shell/table.js";
import { tabs } from "./shell/tabs.js";

const ROLES = ["annotator", "adjudicator", "lead", "viewer", "admin"];
const SCOPES = { annotate: "judge items", read: "read projects and quality", lead: "run projects", admin: "administer", ingest: "send training runs" };
const select = (values, value) => {
  const element = h("select", {}, values.map((option) => h("option", { value: option }, option)));
  if (value) element.value = value;
  return element;
};

async function setPassword(person) {
  const password = h("input", { type: "password", autocomplete: "new-password", minlength: 12 });
  const done = await ask("New password", [h("p", {}, "For ", h("bdi", {}, person.handle)), field("Password", password, "At least 12 characters.")],
    { confirm: "Set", initial: password, check: () => (password.value.length >= 12 ? null : "At least 12 characters.") });
  if (!done) return;
  await patch(`/people/${seg(person.id)}`, { password: password.value });
  announce("Password set");
}

function personRow(person, reload) {
  const role = select(ROLES, person.role);
  role.setAttribute("aria-label", `Role of ${person.handle}`);
  role.addEventListener("change", () => attempt(async () => {
    await patch(`/people/${seg(person.id)}`, { role: role.value });
    announce(`${person.handle} is ${role.value} now`);
  }));
  const active = h("input", { type: "checkbox", "aria-label": `${person.handle} may sign in` });
  active.checked = person.active;
  active.addEventListener("change", () => attempt(async () => {
    await patch(`/people/${seg(person.id)}`, { active: active.checked });
    await reload();
  }));
  return h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, person.handle)), h("td", {}, h("code", {}, person.pseudonym)), h("td", {}, role),
    h("td", {}, active), h("td", {}, button("New password", () => attempt(() => setPassword(person)), { class: "small", "aria-label": `New password for ${person.handle}` })));
}

async function people(panel) {
  const reload = () => people(panel);
  const rows = await get("/people");
  const [handle, role] = [h("input", { required: true, maxlength: 80, autocapitalize: "none" }), select(ROLES)];
  const password = h("input", { type: "password", autocomplete: "new-password" });
  const form = h("form", { class: "card" }, h("h2", {}, "New person"), h("div", { class: "inline" },
    field("Handle", handle), field("Role", role), field("Password (optional)", password), h("button", { type: "submit", class: "primary" }, "Add")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      await post("/people", { handle: handle.value.trim(), role: role.value, ...(password.value ? { password: password.value } : {}) });
      announce("Added");
      await reload();
    });
  });
  const heads = ["Handle", "Pseudonym", "Role", "May sign in", "Password"].map((name) => h("th", { scope: "col" }, name));
  show(panel, h("section", { class: "card scroll", tabindex: "0", role: "region", "aria-label": "People" },
    h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.map((person) => personRow(person, reload))))), form);
}

function showOnce(token) {
  const secret = h("input", { readonly: true, value: token, "aria-label": "Token", class: "code secret" });
  return ask("Your new token", [h("p", {}, "Copy it now: it is shown this one time only."), secret], { initial: secret });
}

async function tokens(panel) {
  const reload = () => tokens(panel);
  const rows = await get("/tokens");
  const revoke = (row) => button("Revoke", () => attempt(async () => {
    await remove(`/tokens/${seg(row.id)}`);
    announce("Revoked");
    await reload();
  }), { class: "small", "aria-label": `Revoke ${row.name}` });
  const name = h("input", { required: true, maxlength: 80 });
  const days = h("input", { type: "number", min: 1, max: 365, value: "30" });
  const boxes = Object.entries(SCOPES).map(([scope, meaning]) => ({ scope, box: h("input", { type: "checkbox" }), meaning }));
  const wrong = h("p", { class: "missing", role: "alert" });
  const form = h("form", { class: "card" }, h("h2", {}, "New token"), h("div", { class: "inline" }, field("Name", name), field("Valid for (days)", days)),
    h("fieldset", { class: "choices column" }, h("legend", {}, "It may"), h("div", { class: "options" }, boxes.map(({ scope, box, meaning }) =>
      h("label", { class: "check" }, box, h("span", {}, h("strong", {}, scope), " – ", meaning))))),
    wrong, h("p", {}, h("button", { type: "submit", class: "primary" }, "Create token")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const scopes = boxes.filter(({ box }) => box.checked).map(({ scope }) => scope);
    wrong.textContent = scopes.length ? "" : "Choose at least one thing that it may do.";
    if (!scopes.length) return;
    post("/tokens", { name: name.value.trim(), scopes, days: Number(days.value) })
      .then(async ({ token }) => {
        await showOnce(token);
        await reload();
      })
      .catch((error) => (wrong.textContent = words(error)));
  });
  show(panel, rows.length ? h("section", { class: "card" }, h("h2", {}, "Your tokens"), table("Your tokens", rows, { actions: revoke, hide: ["id"] })) : null, form);
}

async function audit(panel) {
  const verdict = h("p", { role: "status", "aria-live": "polite" });
  const check = button("Verify the whole chain", () => attempt(async () => {
    const reply = await get("/audit/verify");
    const ok = reply.ok ?? reply.broken == null;
    show(verdict, h("strong", {}, ok ? "✓ The chain is whole." : "✗ The chain is broken."), " ",
      Object.entries(reply).filter(([name]) => name !== "ok").map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(" · "));
    if (!ok) notify("The audit log was changed after it was written.", "bad");
  }));
  const since = h("input", { type: "date" });
  const list = h("div", {});
  const load = async () => {
    const reply = await get(`/audit${since.value ? `?since=${encodeURIComponent(`${since.value}T00:00:00.000000Z`)}` : ""}`);
    const rows = Array.isArray(reply) ? reply : reply.events;
    show(list, rows.length ? table("Audit log", rows, { hide: ["hash", "previous"] }) : h("p", { class: "muted" }, "Nothing in this time."));
  };
  since.addEventListener("change", () => attempt(load));
  await load();
  show(panel, h("section", { class: "card" }, h("div", { class: "inline" }, field("Since", since), check), verdict), h("section", { class: "card" }, list));
}

const { person } = await open("Administration");
const guarded = (draw) => async (panel) => {
  try {
    await draw(panel);
  } catch (error) {
    show(panel, h("p", { class: "card missing", role: "alert" }, words(error)));
  }
};
const desk = tabs("Administration", [
  ...(person.role === "admin" ? [{ id: "people", label: "People", draw: guarded(people) }] : []),
  { id: "tokens", label: "Your tokens", draw: guarded(tokens) },
  ...(person.role === "admin" ? [{ id: "audit", label: "Audit log", draw: guarded(audit) }] : []),
]);
show(main(), h("h1", {}, "Administration"), desk.element);
await desk.open(location.hash.slice(1));
