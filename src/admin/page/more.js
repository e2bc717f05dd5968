// What is opened when it is wanted: an application's history, and the places to paste JSON into.

import { el, keyed, put, putWhole, head } from "./dom.js";
import { button, note, place, trouble } from "./actions.js";
import { ask, Problem } from "./api.js";
import { ago, duration, moment, named, short } from "./format.js";
import { BY, said } from "./releases.js";

/** The history of an application, read when it is opened and again after each switch. */
export function history(app) {
  const slot = place();
  const table = el("table", {},
    el("caption", { class: "unseen" }, `History of ${app}, newest first`),
    head(["Release"], ["When"], ["By"], ["Kind"], ["Actions", { class: "buttons" }]));
  table.hidden = true;
  const node = el("details", { ontoggle: () => node.open && load() }, el("summary", {}, "History"), slot,
    el("div", { class: "table", role: "region", "aria-label": `History of ${app}`, tabindex: "0" }, table));
  let seen = null;

  async function load() {
    try {
      const { history: entries } = await ask("GET", `apps/${encodeURIComponent(app)}/history`);
      slot.replaceChildren();
      const rows = entries.map((entry, at) => ({ entry, at })).reverse();
      keyed(table, rows, ({ entry, at }) => `${at} ${entry.at} ${entry.hash}`, () => entryRow(app, slot));
      table.hidden = rows.length === 0;
      if (rows.length === 0) slot.replaceChildren(el("p", { class: "empty" }, "No release has been switched to yet."));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      trouble(slot, error);
    }
  }
  return {
    node,
    update({ last_switch: last }) {
      const now = last ? `${last.at} ${last.hash}` : "";
      if (node.open && seen !== null && seen !== now) load();
      seen = now;
    },
  };
}

function entryRow(app, slot) {
  const revision = el("strong");
  const hash = el("code");
  const when = el("td");
  const by = el("td");
  const kind = el("td");
  let entry = null;
  const launch = button("Launch", {
    slot,
    run: async () => {
      const done = await ask("POST", "launch", { app, hash: entry.hash });
      return `${named(done)} is launched and can be switched to.`;
    },
  });
  return {
    node: el("tbody", {}, el("tr", {},
      el("th", { scope: "row" }, el("span", { class: "release" }, revision, hash)), when, by, kind,
      el("td", { class: "buttons" }, launch))),
    update(row) {
      entry = row.entry;
      put(revision, named(entry));
      putWhole(hash, short(entry.hash), entry.hash);
      putWhole(when, entry.at ? `${moment(entry.at)}, ${ago(entry.at)}` : "–", entry.at);
      put(by, entry.by || "–");
      put(kind, entry.kind);
      launch.setAttribute("aria-label", `Launch ${named(entry)} of ${app} again`);
    },
  };
}

let fields = 0;

/** A text field with a label. */
function field(tag, label, attributes) {
  const id = `field-${(fields += 1)}`;
  const input = el(tag, { id, spellcheck: "false", autocomplete: "off", autocapitalize: "off", ...attributes });
  return { input, nodes: [el("label", { for: id }, label), input] };
}

/** Where a launch configuration is pasted, stored, launched and switched to, one step after the other. */
export function launchForm(app) {
  const slot = place();
  const json = field("textarea", "Launch configuration (JSON)", {
    rows: "6",
    placeholder: '{"image": "…", "revision": "r1", "health": {"path": "/healthz"}}',
  });
  const hash = field("input", "or the hash of a stored one", { type: "text", placeholder: "64 or 32 hexadecimal digits" });
  const node = el("details", {}, el("summary", {}, "Launch a release"),
    el("div", { class: "form" },
      ...json.nodes,
      el("div", { class: "buttons" }, button("Store", { name: `Store this configuration for ${app}`, slot, run: store })),
      ...hash.nodes,
      el("div", { class: "buttons" }, button("Launch", { name: `Launch this hash for ${app}`, slot, run: () => launch(hash.input.value.trim()) })),
      slot));

  async function store() {
    const stored = await ask("POST", `apps/${encodeURIComponent(app)}/releases`, json.input.value);
    hash.input.value = stored.hash;
    const warnings = stored.warnings.map((warning) => el("li", {}, warning));
    note(slot, `${named(stored)} is stored as ${short(stored.hash)}.`,
      warnings.length > 0 ? el("ul", {}, ...warnings) : null,
      button("Launch it", { slot, name: `Launch ${named(stored)} of ${app} now`, kind: "strong", run: () => launch(stored.hash) }));
  }

  async function launch(wanted) {
    const launched = await ask("POST", "launch", { app, hash: wanted });
    const time = launched.existing ? "was there already and is awake" : `is healthy after ${duration(launched.took_ms / 1_000)}`;
    note(slot, `${named(launched)} ${time}.`,
      button("Switch to it", {
        slot,
        name: `Switch ${app} to ${named(launched)} now`,
        kind: "strong",
        question: () => ({
          title: `Switch ${app} to ${named(launched)}?`,
          text: "All new requests go to it at once.",
          yes: "Switch",
        }),
        run: async () => said(await ask("POST", "switch", { app, hash: launched.hash, by: BY })),
      }));
  }
  return { node };
}

/** Where a workload's specification, or a template with its values, is pasted. */
export function workloadForm() {
  const slot = place();
  const json = field("textarea", "Specification, or a template and its values (JSON)", {
    rows: "4",
    placeholder: '{"name": "a", "image": "…"}  or  {"template": "…", "vars": {}}',
  });
  const create = async (start) => {
    const made = await ask("POST", `deploy?start=${start}`, json.input.value);
    return `${made.name} is ${made.state}.`;
  };
  const node = el("details", {}, el("summary", {}, "Make a workload"),
    el("div", { class: "form" },
      ...json.nodes,
      el("div", { class: "buttons" },
        button("Make and start", { slot, run: () => create(true) }),
        button("Make only", { slot, run: () => create(false) })),
      slot));
  return { node };
}
