// The list of projects: what is mine to do, and the doors to the other rooms.

import { get, post, seg } from "./shell/api.js";
import { field, h, show } from "./shell/dom.js";
import { open } from "./room.js";
import { announce, atLeast, attempt, badge, main } from "./shell/page.js";

const SAID = { draft: "being prepared", live: "open", paused: "paused", closed: "closed" };

function share(project) {
  const done = project.items ? project.satisfied / project.items : 0;
  return h("div", { class: "meter" },
    h("progress", { max: 1, value: done, "aria-label": "Items with enough judgments" }),
    h("span", {}, `${project.satisfied} of ${project.items} items complete`));
}

function card(project, person) {
  const path = seg(project.id);
  const doors = [
    atLeast(person, "annotator") && h("a", { class: "button primary", href: `/annotate/${path}` }, "Annotate"),
    atLeast(person, "adjudicator") && h("a", { class: "button", href: `/adjudicate/${path}` }, "Adjudicate"),
    (atLeast(person, "lead") || person.role === "viewer") && h("a", { class: "button", href: `/lead/${path}` }, "Lead"),
  ];
  return h("li", { class: "card project" },
    h("header", {}, h("h2", { dir: "auto" }, project.name), badge(SAID[project.state] ?? project.state, project.state),
      project.simulated && badge("simulated")),
    share(project),
    h("p", { class: "muted" }, `${project.judgments} judgments in all, ${project.my_judgments} of them yours`),
    h("p", { class: "doors" }, doors));
}

function creator(reload) {
  const name = h("input", { required: true, maxlength: 200 });
  const form = h("form", { class: "inline" }, field("Name of a new project", name),
    h("button", { type: "submit" }, "Create"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      await post("/projects", { name: name.value.trim() });
      announce("Project created");
      await reload();
    });
  });
  return h("section", { class: "card" }, h("h2", {}, "New project"), form);
}

async function draw(person) {
  const projects = await get("/projects");
  const empty = h("p", { class: "card centre" }, "There is no project yet.",
    atLeast(person, "lead") ? " Create one below." : " A lead creates one and adds you to it.");
  show(main(), h("h1", {}, "Projects"),
    projects.length ? h("ul", { class: "cards" }, projects.map((project) => card(project, person))) : empty,
    atLeast(person, "lead") && creator(() => draw(person)));
}

const { person } = await open("Projects");
await attempt(() => draw(person));
