// Buttons that do something: one confirmation where it is needed, busy meanwhile, and what came of it told
// beside them.

import { announce, el, put, set } from "./dom.js";
import { Problem } from "./api.js";
import { sentence } from "./format.js";

/** A note that all went well goes away by itself. */
const NOTE_TIME = 10_000;

const confirming = document.getElementById("confirm");

/** A place beside buttons where what came of them is told. */
export function place() {
  return el("div", { class: "slot" });
}

/**
 * A button. `run()` does it and may give a sentence to show; what it throws is shown in `slot`.
 * `question()`, where there is one, gives `{ title, text, yes }` to be agreed to before.
 */
export function button(label, { name, slot, run, question, kind }) {
  const node = el("button", { type: "button", class: kind, onclick: press }, label);
  set(node, "aria-label", name);

  async function press() {
    if (node.getAttribute("aria-disabled") || node.getAttribute("aria-busy")) return;
    if (question && !(await agreed(question()))) return;
    set(node, "aria-busy", "true");
    clear(slot);
    try {
      const said = await run();
      if (said) note(slot, said);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      trouble(slot, error);
    } finally {
      set(node, "aria-busy", null);
    }
  }
  return node;
}

/** Changes what a button is called, for the eye and for the ear. */
export function call(node, label, name) {
  put(node, label);
  set(node, "aria-label", name);
}

function agreed({ title, text, yes }) {
  put(confirming.querySelector("h2"), title);
  put(confirming.querySelector("p"), text);
  put(confirming.querySelector("[value=yes]"), yes);
  confirming.returnValue = "";
  confirming.showModal();
  return new Promise((resolve) => {
    confirming.addEventListener("close", () => resolve(confirming.returnValue === "yes"), { once: true });
  });
}

function clear(slot) {
  slot.replaceChildren();
}

/** A sentence, and what can be done next. */
export function note(slot, text, ...next) {
  const node = el("div", { class: "note" }, el("p", {}, text), ...next);
  slot.replaceChildren(node);
  announce(text);
  if (next.length > 0) return;
  setTimeout(() => node.remove(), NOTE_TIME);
}

/** What was refused, with all that the gateway tells of it. */
export function trouble(slot, problem) {
  const close = el("button", { type: "button", class: "quiet", "aria-label": "Dismiss this message", onclick: () => clear(slot) }, "Dismiss");
  const errors = problem.errors.map((error) => el("li", {}, fieldError(error)));
  slot.replaceChildren(el("div", { class: "trouble", role: "alert" },
    el("p", {}, sentence(problem.message)),
    errors.length > 0 ? el("ul", {}, ...errors) : null,
    problem.log.length > 0 ? log(problem.log) : null,
    close));
}

function fieldError({ field, message, line, column }) {
  const at = line ? ` (line ${line}${column ? `, column ${column}` : ""})` : "";
  return field ? `${field}: ${message}${at}` : `${message}${at}`;
}

/** The last lines of a container. */
export function log(lines) {
  return el("figure", { class: "log" },
    el("figcaption", {}, "Its last words"),
    el("pre", { tabindex: "0" }, lines.join("\n")));
}

