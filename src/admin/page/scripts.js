// The scripts that decide: their version, what is refused or held of a change, and the ways back.

import { el, keyed, put, putWhole, set, show } from "./dom.js";
import { button, call, place } from "./actions.js";
import { ask, Problem } from "./api.js";
import { moment, several, short } from "./format.js";

export function scripts() {
  const slot = place();
  const fact = document.getElementById("scripts-version");
  const serving = el("p", { class: "serving" });
  const refused = el("div", { class: "trouble" });
  const held = el("p", { class: "alerts" });
  const kept = el("div", { class: "buttons" });
  const activate = button("Activate", { slot, run: () => change("scripts/activate", {}) });
  const node = el("div", {}, serving, slot, held, refused, el("div", { class: "buttons" }, activate, kept));
  document.getElementById("scripts-view").replaceChildren(node);

  async function change(path, body) {
    draw(await ask("POST", path, body));
  }

  function draw(view) {
    const state = view.refused ? "refused change" : view.held ? "held change" : view.rolled_back ? "rolled back" : "";
    put(fact, `v${view.version}${state ? `, ${state}` : ""}`);
    set(fact, "data-tone", view.refused ? "bad" : view.held || view.rolled_back ? "busy" : "good");
    putWhole(serving, servingOf(view), view.hash);
    drawRefused(view.refused);
    put(held, heldOf(view));
    held.hidden = !held.textContent;
    show(activate, Boolean(view.held || view.rolled_back));
    call(activate, view.held ? `Activate v${view.held.version}` : "End the rollback", null);
    keyed(kept, view.kept.filter((version) => version.version !== view.version), (version) => version.version, keptButton);
  }

  function drawRefused(told) {
    refused.hidden = !told;
    if (!told) return;
    const errors = told.errors.map((error) => el("li", {},
      el("p", {}, `${error.line > 0 ? `${error.file}:${error.line}:${error.column}` : error.file}: ${error.message}`),
      error.excerpt ? el("pre", {}, error.excerpt) : null));
    refused.replaceChildren(
      el("p", {}, `What the directory holds since ${moment(told.at)} is refused; the version before it decides on.`),
      el("ul", {}, ...errors));
  }

  function keptButton({ version }) {
    const node = button(`Go back to v${version}`, {
      slot,
      question: () => ({
        title: `Go back to version ${version} of the scripts?`,
        text: "It decides about all new requests, until the directory has other good content or the rollback is ended.",
        yes: "Go back",
      }),
      run: () => change("scripts/rollback", { version }),
    });
    return {
      node,
      update(told) {
        set(node, "title", `${short(told.hash)}, loaded ${moment(told.loaded_at)}`);
      },
    };
  }

  return {
    /** Asks again; that the gateway is away is told elsewhere. */
    async refresh() {
      try {
        draw(await ask("GET", "scripts"));
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (error.kind === "not_ready") put(fact, "none");
      }
    },
  };
}

function servingOf(view) {
  const tests = view.tests > 0 ? `, ${several(view.tests, "own test")} passed` : "";
  return `Version ${view.version} (${short(view.hash)}) decides, since ${moment(view.since)}: ${several(view.routes.length, "route")}, ${several(view.templates.length, "template")}${tests}.`;
}

function heldOf({ held, rolled_back: back, rolled_back_because: because }) {
  if (held) return `Version ${held.version} decides otherwise on requests that came last, and waits for somebody's word.`;
  if (back) return `The directory has newer content${because ? `; the gateway went back by itself: ${because}` : ""}.`;
  return "";
}
