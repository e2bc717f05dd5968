// The releases of one application: what each is for, how it does, and what can be done with it.

import { announce, cell, el, head, keyed, put, putWhole, set, show } from "./dom.js";
import { button, call, place } from "./actions.js";
import { ask } from "./api.js";
import { count, duration, named, roughly, several, short } from "./format.js";

export const BY = "status page";

const STEPS = ["configuring", "pulling", "creating", "checking", "ready"];

/** Phases by how they look. */
const TONES = {
  ready: "good",
  creating: "busy", starting: "busy", configuring: "busy", pulling: "busy", checking: "busy",
  stopped: "asleep", paused: "asleep", absent: "none",
  draining: "leaving", stopping: "leaving", pausing: "leaving", removing: "leaving",
  failed: "bad",
};

/** A phase as a word with a dot. */
export function phase() {
  const node = el("span", { class: "phase" });
  return {
    node,
    update(word) {
      put(node, word);
      set(node, "data-tone", TONES[word] ?? "none");
    },
  };
}

/** A cell with what is open now by state, and the leases, which are what keeps a workload awake. */
export function openCell(label) {
  const states = el("span");
  const leases = el("small");
  const node = cell(label, {}, states, leases);
  return {
    node,
    update({ leases: held, waiting, open = {} }) {
      const now = { ...open, held: Math.max(open.held ?? 0, waiting) };
      const told = ["held", "waiting", "streaming", "upgraded"]
        .filter((state) => now[state] > 0)
        .map((state) => `${count(now[state])} ${state}`);
      const lease = held > 0 ? several(held, "lease") : "";
      put(states, told.join(", ") || lease || "–");
      put(leases, told.length > 0 ? lease : "");
      set(node, "data-nothing", told.length === 0 && held === 0);
    },
  };
}

/** A cell with how long it has been idle, and when it will sleep. */
export function idleCell() {
  const since = el("span");
  const ahead = el("small");
  const bar = el("i", { class: "ahead", "aria-hidden": "true" }, el("b"));
  const node = cell("Idle", {}, since, ahead, bar);
  return {
    node,
    update({ idle_seconds: idle, idle_stop_seconds: limit }) {
      const isIdle = idle !== null && idle !== undefined;
      const sleeps = limit !== null && limit !== undefined;
      put(since, isIdle ? duration(idle) : "–");
      set(node, "data-nothing", !isIdle);
      put(ahead, !isIdle ? "" : sleeps ? `sleeps in ${roughly(limit - idle)}` : "never sleeps");
      bar.hidden = !isIdle || !sleeps;
      if (!bar.hidden) bar.firstElementChild.style.width = `${Math.min(100, (100 * idle) / limit).toFixed(1)}%`;
    },
  };
}

const isAsleep = (word) => ["stopped", "paused", "failed"].includes(word);

export function releases(app) {
  const table = el("table", { class: "stacks", role: "table" },
    el("caption", { class: "unseen" }, `Releases of ${app}`),
    head(["Release"], ["Role"], ["Phase"], ["Open now"], ["Idle"], ["Actions", { class: "buttons" }]));
  const none = el("p", { class: "empty" }, "No releases. Store a launch configuration below, launch it, switch to it.");
  const node = el("div", {}, none, el("div", { class: "table", role: "region", "aria-label": `Releases of ${app}` }, table));
  const create = () => release(app);
  return {
    node,
    /** `views`: the workloads by name. */
    update(status, views) {
      none.hidden = status.releases.length > 0;
      table.hidden = status.releases.length === 0;
      const current = status.releases.find((release) => release.role === "current");
      const rows = status.releases.map((release) => ({ release, current, view: views.get(release.workload) }));
      keyed(table, rows, (row) => row.release.hash, create);
    },
  };
}

function release(app) {
  const slot = place();
  const revision = el("strong");
  const hash = el("code");
  const image = el("small");
  const role = el("span", { class: "role" });
  const word = phase();
  const steps = el("span", { class: "steps", "aria-hidden": "true" }, ...STEPS.slice(1).map(() => el("i")));
  const detail = el("small");
  const open = openCell("Open now");
  const idle = idleCell();
  let now = null;
  let told = null;

  const name = () => `${named(now.release)} of ${app}`;
  const order = (path, more = {}) => ask("POST", path, { app, hash: now.release.hash, ...more });
  const buttons = {
    launch: button("Launch", { slot, run: launch }),
    wake: button("Wake", { slot, run: wake }),
    discard: button("Discard", { slot, run: discard, question: discardQuestion }),
    canary: button("Canary", { slot, run: canary, question: canaryQuestion }),
    switch: button("Switch", { slot, run: switchTo, question: switchQuestion, kind: "strong" }),
  };

  async function launch() {
    const done = await order("launch");
    return `${named(now.release)} is healthy${done.existing ? "" : ` after ${duration(done.took_ms / 1_000)}`}.`;
  }
  async function wake() {
    await ask("PUT", `deploy/${encodeURIComponent(now.release.workload)}?wait=ready`);
  }
  async function switchTo() {
    return said(await order("switch", { by: BY }));
  }
  async function canary() {
    await order("switch", { canary: true, by: BY });
    return `${named(now.release)} is the canary: the scripts say which requests it gets.`;
  }
  async function discard() {
    await order("discard");
  }
  function discardQuestion() {
    const { release } = now;
    return {
      title: `Discard ${named(release)} of ${app}?`,
      text: `Its container and its image are removed. Its launch configuration (${short(release.hash)}) stays in the store.`,
      yes: "Discard",
    };
  }
  function switchQuestion() {
    const { release, current } = now;
    const old = current ? ` ${named(current)} ends what it has begun and stays asleep for a way back.` : "";
    return {
      title: `Switch ${app} to ${named(release)}?`,
      text: `All new requests go to ${named(release)} (${short(release.hash)}) at once.${old}`,
      yes: "Switch",
    };
  }
  function canaryQuestion() {
    const { release, current } = now;
    return {
      title: `Try ${named(release)} as a canary of ${app}?`,
      text: `The part of the requests that the scripts name goes to it; the rest stays with ${current ? named(current) : "the current release"}.`,
      yes: "Try it",
    };
  }

  const node = el("tbody", { role: "rowgroup" },
    el("tr", { role: "row" },
      el("th", { scope: "row", role: "rowheader" }, el("span", { class: "release" }, revision, hash), image),
      cell("Role", {}, role),
      cell("Phase", {}, el("span", { class: "progress" }, word.node, steps), detail),
      open.node,
      idle.node,
      cell("", { class: "buttons" }, ...Object.values(buttons))),
    el("tr", { class: "told", role: "row" }, el("td", { colspan: "6", role: "cell" }, slot)));

  return {
    node,
    update(row) {
      now = row;
      const { release, current, view } = row;
      const isLaunching = release.role === "candidate" && release.launch && release.launch.phase !== "ready";
      const shown = isLaunching && release.launch.phase !== "checking" ? release.launch.phase : release.phase;
      putWhole(revision, named(release), release.revision);
      putWhole(hash, short(release.hash), release.hash);
      putWhole(image, release.image, release.workload ? `${release.image}, workload ${release.workload}` : release.image);
      put(role, release.role);
      set(role, "data-role", release.role);
      set(node, "data-role", release.role);
      word.update(isLaunching ? release.launch.phase : shown);
      const step = isLaunching ? STEPS.indexOf(release.launch.phase) : 0;
      steps.hidden = !isLaunching;
      [...steps.children].forEach((part, at) => set(part, "class", at < step ? "on" : null));
      put(detail, details(release, view, isLaunching));
      open.update({ ...release, open: release.total.open });
      idle.update({ ...view, idle_seconds: release.idle_seconds });
      offer(release, current, isLaunching);
      if (told !== null && told !== shown) announce(`${name()} is ${shown}`);
      told = shown;
    },
  };

  function offer(release, current, isLaunching) {
    const has = release.phase !== "absent" && !isLaunching;
    const isOther = release !== current;
    for (const [key, label] of [["launch", "Launch"], ["wake", "Wake"], ["discard", "Discard"], ["switch", "Switch"], ["canary", "Canary"]]) {
      call(buttons[key], label, `${label} ${name()}`);
    }
    show(buttons.launch, release.phase === "absent" && !isLaunching);
    show(buttons.wake, has && Boolean(release.workload) && isAsleep(release.phase));
    show(buttons.discard, release.role === "candidate" && !isLaunching);
    show(buttons.switch, has && isOther);
    show(buttons.canary, has && isOther && Boolean(current) && release.role !== "canary");
  }
}

function details(release, view, isLaunching) {
  const parts = [];
  if (isLaunching && release.launch.detail) parts.push(release.launch.detail);
  if (release.reason) parts.push(release.reason);
  const left = release.drain_seconds_left;
  if (left !== null && left !== undefined) parts.push(`${duration(left)} left`);
  else if (view && !isLaunching) parts.push(`for ${roughly(view.phase_seconds)}`);
  return parts.join(" · ");
}

/** What a switch or a way back has done, in a sentence. */
export function said(switched) {
  const name = named(switched);
  if (switched.gave_up && switched.unchanged) return `The canary ${short(switched.gave_up)} is given up; all requests go to ${name}.`;
  if (switched.unchanged) return `${name} was current already; nothing has changed.`;
  const gone = switched.gave_up ? ` The canary ${short(switched.gave_up)} is given up.` : "";
  if (switched.pending) return `${name} is current.${gone} The store has not taken it yet; that is tried until it does.`;
  return `${name} is current.${gone}`;
}
