// All workloads, filtered, each with its phase, its use, when it will sleep, and what can be done with it.

import { announce, cell, el, head, keyed, put, putWhole, set, show } from "./dom.js";
import { button, place } from "./actions.js";
import { ask } from "./api.js";
import { count, roughly } from "./format.js";
import { idleCell, openCell, phase } from "./releases.js";
import { workloadForm } from "./more.js";

const APP_LABEL = "wakegate.app";

/** Phases of few workloads are told; of many it would be noise. */
const TOLD_MAX = 20;

export function workloads() {
  const table = document.getElementById("workload-table");
  const filter = document.getElementById("filter");
  const none = document.getElementById("no-workloads");
  const unmatched = document.getElementById("no-matches");
  const total = document.getElementById("workload-count");
  table.append(el("caption", { class: "unseen" }, "Workloads"),
    head(["Name"], ["Phase"], ["In use"], ["Idle"], ["Address"], ["Actions", { class: "buttons" }]));
  document.getElementById("workload-making").append(workloadForm().node);
  let all = [];
  filter.addEventListener("input", draw);

  function draw() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = all.filter((view) => {
      const text = [view.name, view.image, view.phase, view.labels[APP_LABEL]].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    keyed(table, shown, (view) => view.name, workload);
    table.parentElement.hidden = shown.length === 0;
    none.hidden = all.length > 0;
    unmatched.hidden = all.length === 0 || shown.length > 0;
    filter.parentElement.hidden = all.length === 0;
    put(total, all.length === shown.length ? count(all.length) : `${count(shown.length)} of ${count(all.length)}`);
  }
  return {
    update(views) {
      all = views;
      draw();
    },
  };
}

function workload({ name }) {
  const slot = place();
  const image = el("small");
  const app = el("span", { class: "role" });
  const word = phase();
  const detail = el("small");
  const open = openCell("In use");
  const idle = idleCell();
  const address = el("code");
  const where = cell("Address", {}, address);
  let now = null;
  let told = null;

  const path = `deploy/${encodeURIComponent(name)}`;
  const wake = button("Wake", { name: `Wake ${name}`, slot, run: async () => void (await ask("PUT", `${path}?wait=ready`)) });
  const remove = button("Remove", {
    name: `Remove ${name}`,
    slot,
    kind: "danger",
    question: () => ({
      title: `Remove ${name}?`,
      text: `${belonging(now)}Its requests may end; then its container is stopped and removed with all that is in it.`,
      yes: "Remove",
    }),
    run: async () => void (await ask("DELETE", path)),
  });

  const node = el("tbody", { role: "rowgroup" },
    el("tr", { role: "row" },
      el("th", { scope: "row", role: "rowheader" }, el("span", { class: "release" }, el("strong", {}, name), app), image),
      cell("Phase", {}, word.node, detail),
      open.node,
      idle.node,
      where,
      cell("", { class: "buttons" }, wake, remove)),
    el("tr", { class: "told", role: "row" }, el("td", { colspan: "6", role: "cell" }, slot)));

  return {
    node,
    update(view) {
      now = view;
      const owner = view.labels[APP_LABEL];
      put(app, owner ?? "");
      app.hidden = !owner;
      put(image, view.image);
      word.update(view.phase);
      put(detail, [view.reason, `for ${roughly(view.phase_seconds)}`].filter(Boolean).join(" · "));
      open.update({ leases: view.leases, waiting: view.waiting });
      idle.update(view);
      set(where, "data-nothing", !view.address);
      putWhole(address, view.address ?? "–", view.id ? `container ${view.id}` : view.address ?? "");
      show(wake, ["stopped", "paused", "failed", "absent"].includes(view.phase));
      set(remove, "aria-disabled", view.phase === "removing");
      if (told !== null && told !== view.phase && !owner) tell(view.phase);
      told = view.phase;
    },
  };

  function tell(phase) {
    if (node.parentElement?.tBodies.length <= TOLD_MAX) announce(`${name} is ${phase}`);
  }
}

function belonging({ labels }) {
  return labels[APP_LABEL] ? `It is a release of ${labels[APP_LABEL]}. ` : "";
}
