// The page as a whole: follows the status, draws it, and says how old it is.

import { announce, keyed, put, set, show } from "./dom.js";
import { button, place } from "./actions.js";
import { ask, follow, onTokenNeeded } from "./api.js";
import { duration, sentence, several, timeOfDay } from "./format.js";
import { application, troublesOf } from "./applications.js";
import { scripts } from "./scripts.js";
import { workloads } from "./workloads.js";

/** Between two looks at the scripts, which the stream tells nothing of. */
const SCRIPTS_EVERY = 15_000;

const at = (id) => document.getElementById(id);
const applications = at("application-list");
const workloadList = workloads();
const scriptsView = scripts();
const cards = new Map();

let link = { state: "connecting" };
/** When the last status came; none until one has. */
let seen = null;
let troubles = 0;

function drawStatus(status) {
  seen = new Date();
  const views = new Map(status.workloads.map((view) => [view.name, view]));
  put(at("version"), status.version);
  set(at("engine"), "data-tone", status.engine.up ? "good" : "bad");
  put(at("engine"), status.engine.up ? "up" : "away");
  at("engine-away").hidden = status.engine.up;
  put(at("engine-reason"), status.engine.reason ? sentence(status.engine.reason) : "");
  put(at("totals"), totals(status.workloads));
  at("no-applications").hidden = status.apps.length > 0;
  drawAll(status.apps);
  const items = status.apps.map((app) => ({ app: app.app, status: app, views }));
  keyed(applications, items, (item) => item.app, card);
  workloadList.update(status.workloads);
  troubles = status.apps.reduce((sum, app) => sum + troublesOf(app), status.engine.up ? 0 : 1);
  set(document.body, "data-state", "seen");
  drawTitle();
}

/** What can be done with all applications at once, where there is more than one. */
const slot = place();
const closeAll = button("Maintenance of all", {
  slot,
  run: () => ask("POST", "maintenance/up", {}).then(() => "All applications are closed for maintenance."),
  question: () => ({
    title: "Close all applications for maintenance?",
    text: "Every new request to any of them is answered 503 until the maintenance is ended. What is under way ends as usual.",
    yes: "Close them",
  }),
});
const reopenAll = button("End maintenance of all", {
  slot,
  run: () => ask("POST", "maintenance/down", {}).then(() => "The maintenance of all applications is ended."),
  kind: "strong",
});
at("all-applications").append(closeAll, reopenAll);
at("all-applications-slot").append(slot);

function drawAll(apps) {
  const closed = apps.filter((app) => app.door === "maintenance").length;
  at("all-applications").hidden = apps.length < 2;
  show(closeAll, closed < apps.length);
  show(reopenAll, closed > 0);
}

function card(item) {
  const made = application(item);
  cards.set(item.app, made);
  return { ...made, ended: () => cards.delete(item.app) };
}

function totals(views) {
  const ready = views.filter((view) => view.phase === "ready").length;
  const asleep = views.filter((view) => ["stopped", "paused"].includes(view.phase)).length;
  const other = views.length - ready - asleep;
  if (views.length === 0) return "none";
  return [[ready, "ready"], [asleep, "asleep"], [other, "other"]]
    .filter(([number]) => number > 0)
    .map(([number, word]) => `${number} ${word}`)
    .join(", ");
}

function drawLink(now) {
  const before = link.state;
  link = now;
  const isLive = link.state === "live";
  at("lost").hidden = link.state !== "lost";
  at("locked").hidden = link.state !== "locked";
  put(at("link"), isLive ? "live" : link.state);
  set(at("link"), "data-tone", { live: "good", lost: "bad", connecting: "busy" }[link.state] ?? "none");
  set(document.body, "data-stale", link.state === "lost" || link.state === "locked");
  put(at("lost-reason"), sentence(link.reason ?? ""));
  drawAge();
  drawTitle();
  if (isLive && before === "lost") announce("The connection is back");
  if (isLive && before !== "live") scriptsView.refresh();
}

/** How old is what one sees, and when it is tried again. */
function drawAge() {
  if (link.state !== "lost") return;
  // Read out once and not with every second: the time of day stays the same.
  put(at("lost-age"), seen ? `What you see is of ${timeOfDay(seen)}.` : "Nothing has been seen yet.");
  const old = seen ? `${duration((Date.now() - seen.getTime()) / 1_000)} old` : "";
  const wait = Math.max(0, Math.ceil((link.retryAt - Date.now()) / 1_000));
  const next = wait > 0 ? `tried again in ${wait} s` : "trying again";
  put(at("lost-next"), [old, next].filter(Boolean).join(", "));
}

function drawTitle() {
  const state = link.state === "lost" ? "connection lost" : troubles > 0 ? several(troubles, "problem") : "";
  document.title = state ? `${state} · Wakegate` : "Wakegate";
}

function askForToken(reason) {
  const dialog = at("unlocking");
  const problem = at("unlocking-problem");
  const input = at("token");
  problem.hidden = reason === null;
  put(problem, reason === null ? "" : sentence(reason));
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "yes" ? input.value.trim() : "";
      input.value = "";
      resolve(given || null);
    }, { once: true });
  });
}

for (const cancel of document.querySelectorAll("dialog [data-close]")) {
  cancel.addEventListener("click", () => cancel.closest("dialog").close());
}
onTokenNeeded(askForToken);
const following = follow(drawStatus, drawLink);
at("retry").addEventListener("click", following.retry);
at("unlock").addEventListener("click", following.retry);
setInterval(() => {
  drawAge();
  if (link.state === "live") for (const made of cards.values()) made.tick();
}, 1_000);
setInterval(() => {
  if (link.state === "live" && !document.hidden) scriptsView.refresh();
}, SCRIPTS_EVERY);
