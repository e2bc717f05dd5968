// One application: whether it is open, which release serves, what is wrong, and everything below it.

import { announce, el, keyed, put, putWhole, set, show } from "./dom.js";
import { button, call, log, place } from "./actions.js";
import { ask } from "./api.js";
import { ago, moment, named, sentence, short } from "./format.js";
import { BY, releases, said } from "./releases.js";
import { pulse, requestsOf, traffic } from "./traffic.js";
import { history, launchForm } from "./more.js";

export function application({ app }) {
  const slot = place();
  const door = el("span", { class: "door" });
  const serving = el("p", { class: "serving" });
  const beat = pulse();
  const alerts = el("ul", { class: "alerts" });
  const failures = el("div", { class: "failures" });
  const list = releases(app);
  const counts = traffic(app);
  const past = history(app);
  const store = part("Store");
  const registry = part("Registry");
  const last = el("span");
  const id = `app-${app}`;
  let now = null;
  let told = null;

  const path = `apps/${encodeURIComponent(app)}`;
  const hold = button("Pause", {
    slot,
    run: async () => {
      await ask("POST", `${path}/${now.door === "paused" ? "resume" : "pause"}`, {});
    },
  });
  const close = button("Maintenance", { slot, run: () => maintain("up"), question: maintenanceQuestion });
  const reopen = button("End maintenance", { name: `End the maintenance of ${app}`, slot, run: () => maintain("down"), kind: "strong" });
  // What the question named: when somebody else was faster, another release must not be left in its place.
  let leaving = null;
  const back = button("Roll back", {
    slot,
    question: backQuestion,
    run: async () => said(await ask("POST", "rollback", leaving ? { app, by: BY, from: leaving } : { app, by: BY })),
  });

  async function maintain(way) {
    await ask("POST", `maintenance/${way}`, { app });
  }
  function maintenanceQuestion() {
    return {
      title: `Close ${app} for maintenance?`,
      text: "Every new request is answered 503 until the maintenance is ended. What is under way ends as usual.",
      yes: "Close it",
    };
  }
  function backQuestion() {
    const to = find(now, now.previous);
    const from = find(now, now.current);
    leaving = now.canary ? null : now.current;
    if (now.canary) {
      return {
        title: `Give up the canary of ${app}?`,
        text: `All requests go to ${from ? named(from) : "the current release"} again.`,
        yes: "Give it up",
      };
    }
    return {
      title: `Roll ${app} back to ${to ? named(to) : short(now.previous)}?`,
      text: `It is woken if it sleeps, and then gets all new requests.${from ? ` ${named(from)} ends what it has begun.` : ""}`,
      yes: "Roll back",
    };
  }

  const node = el("section", { class: "app", "aria-labelledby": id },
    el("header", {},
      el("div", {}, el("h3", { id, tabindex: "-1" }, app, " ", door), serving),
      beat.node,
      el("div", { class: "buttons" }, hold, close, reopen, back)),
    slot, alerts, list.node, failures, counts.node,
    el("div", { class: "more" }, launchForm(app).node, past.node),
    el("footer", {}, store.node, registry.node, last));

  return {
    node,
    /** `views`: the workloads by name. */
    update({ status, views }) {
      now = status;
      const current = find(status, status.current);
      put(door, status.door);
      set(door, "data-door", status.door);
      put(serving, servingOf(status, current));
      beat.update(requestsOf(status));
      call(hold, status.door === "paused" ? "Resume" : "Pause", `${status.door === "paused" ? "Resume" : "Pause"} ${app}`);
      show(hold, status.door !== "maintenance");
      show(close, status.door !== "maintenance");
      call(close, "Maintenance", `Maintenance of ${app}`);
      show(reopen, status.door === "maintenance");
      const to = find(status, status.previous);
      const way = status.canary ? "Give up canary" : `Roll back${status.previous ? ` to ${to ? named(to) : short(status.previous)}` : ""}`;
      call(back, way, `${way}, ${app}`);
      show(back, Boolean(status.previous || status.canary));
      keyed(alerts, alertsOf(status), (alert) => alert.key, alertRow);
      alerts.hidden = alerts.children.length === 0;
      list.update(status, views);
      keyed(failures, status.failed_launches, (failed) => `${failed.hash} ${failed.at}`, failedLaunch);
      counts.update(status);
      past.update(status);
      store.update(status.store);
      registry.update(status.registry);
      put(last, lastSwitch(status));
      tell(status, current);
    },
    /** Time has passed without a new status. */
    tick() {
      if (now) beat.update(requestsOf(now));
    },
  };

  function tell(status, current) {
    const state = { door: status.door, current: current ? named(current) : status.state, failed: status.failed_launches.length };
    if (told && told.door !== state.door) announce(`${app} is ${state.door}`);
    if (told && told.current !== state.current) announce(current ? `${app}: ${state.current} is current` : `${app}: no current release`);
    const newest = status.failed_launches[0];
    if (told && newest && state.failed > told.failed) announce(`${app}: ${named(newest)} was not launched`);
    told = state;
  }
}

function find(status, hash) {
  return hash ? status.releases.find((release) => release.hash === hash) : undefined;
}

function servingOf(status, current) {
  if (status.state === "loading") return "Which release is current is being found out; requests are held.";
  if (!current) return "No release is current.";
  const canary = find(status, status.canary);
  return canary ? `${named(current)} serves, ${named(canary)} is tried as a canary` : `${named(current)} serves`;
}

/** How many things of an application want somebody's attention. */
export function troublesOf(status) {
  return alertsOf(status).filter((alert) => alert.tone === "bad").length;
}

function alertsOf(status) {
  const alerts = [];
  const add = (key, tone, text) => alerts.push({ key, tone, text });
  if (status.state === "none") add("none", status.releases.length > 0 ? "bad" : "plain", sentence(status.reason ?? "there is no current release"));
  if (status.door === "paused") add("paused", "busy", "Paused: requests are held, up to their limit, and then answered 503.");
  if (status.door === "maintenance") add("maintenance", "busy", "Closed for maintenance: requests are answered 503.");
  const { pending } = status;
  if (pending) {
    const times = pending.attempts === 1 ? "once" : `${pending.attempts} times`;
    add("pending", "bad", `The store does not know yet that ${short(pending.hash)} is current, since ${moment(pending.since)}; tried ${times}: ${sentence(pending.error)}`);
  }
  const stuck = status.failed_rollback;
  if (stuck) add("stuck", "bad", `${sentence(stuck.reason)} Going back failed: ${sentence(stuck.error)}`);
  for (const [name, part] of [["store", status.store], ["registry", status.registry]]) {
    if (part.state === "down") add(name, "bad", `The ${name} does not answer: ${sentence(part.reason ?? "")}`);
  }
  return alerts;
}

function alertRow() {
  const node = el("li");
  return {
    node,
    update({ tone, text }) {
      put(node, text);
      set(node, "data-tone", tone);
    },
  };
}

/** A launch that came to nothing, with what its container said. */
function failedLaunch({ hash, at, error, log: lines, ...release }) {
  const name = named({ hash, ...release });
  const age = el("small");
  const node = el("details", { class: "failure" },
    el("summary", {}, el("strong", {}, name), " was not launched ", age),
    el("p", {}, sentence(error)),
    lines.length > 0 ? log(lines) : el("p", { class: "empty" }, "It has left no log."));
  return {
    node,
    update() {
      putWhole(age, ago(at), at);
    },
  };
}

/** Something outside: its place and whether it answers. */
function part(name) {
  const where = el("code");
  const health = el("span", { class: "phase" });
  return {
    node: el("span", {}, `${name} `, where, " ", health),
    update({ place: at, state, reason }) {
      put(where, at);
      putWhole(health, state, reason ?? state);
      set(health, "data-tone", { up: "good", down: "bad" }[state] ?? "none");
    },
  };
}

function lastSwitch({ last_switch: last, ...status }) {
  if (!last) return "";
  const from = last.from ? ` from ${named(find(status, last.from) ?? { hash: last.from })}` : "";
  return `Last: ${last.kind} to ${named(last)}${from} by ${last.by || "somebody"}, ${ago(last.at)}`;
}
