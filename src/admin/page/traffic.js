// What was counted of an application: a line for all of its releases and one for each, since the last switch
// and before it; and how many requests a second come, as seen from here.

import { el, head, keyed, put, putWhole, set, svg } from "./dom.js";
import { ago, bytes, count, exactly, milliseconds, moment, named, percent, rate } from "./format.js";

const COLUMNS = ["Requests", "1xx", "2xx", "3xx", "4xx", "5xx", "Failed", "p50", "p90", "p99", "In", "Out"];

/** The table of one application. */
export function traffic(app) {
  const table = el("table", { class: "traffic" },
    el("caption", { class: "unseen" }, `Requests of ${app} by release, since the last switch and before it`),
    head(["Release"], ...COLUMNS.map((name) => [name, { class: "number" }])));
  const node = el("div", { class: "table", role: "region", "aria-label": `Traffic of ${app}`, tabindex: "0" }, table);
  return {
    node,
    update(status) {
      const groups = [{ key: "since", title: beginning(status), lines: lines(status, "since_last_switch") }];
      if (status.before_last_switch?.requests > 0) {
        groups.push({ key: "before", title: "Before that", lines: lines(status, "before_last_switch") });
      }
      keyed(table, groups, (group) => group.key, group);
    },
  };
}

function beginning({ last_switch: last, counted_since: start }) {
  // What an earlier gateway has counted since the switch is gone with it.
  const isOlder = !last || Date.parse(last.at) < Date.parse(start);
  return isOlder ? `Since the gateway's start, ${moment(start)} (${ago(start)})` : `Since the last switch, ${moment(last.at)} (${ago(last.at)})`;
}

/** One line for all, and one for each release that had something to do where that says more. */
function lines(status, period) {
  const all = { key: "all", name: "all releases", total: true, counts: status[period] };
  const each = status.releases
    .filter((release) => release[period]?.requests > 0 || release[period]?.turned_over > 0 || release[period]?.unanswered > 0)
    .map((release) => ({ key: release.hash, name: named(release), hash: release.hash, counts: release[period] }));
  const isTheOnlyOne = each.length === 1 && each[0].counts.requests === all.counts.requests;
  return isTheOnlyOne ? each : [all, ...each];
}

function group() {
  const title = el("th", { scope: "rowgroup", colspan: COLUMNS.length + 1 });
  const node = el("tbody", {}, el("tr", { class: "group" }, title));
  return {
    node,
    update(told) {
      put(title, told.title);
      keyed(node, told.lines, (line) => line.key, line);
    },
  };
}

function line() {
  const name = el("th", { scope: "row" });
  const cells = COLUMNS.map(() => el("td", { class: "number" }));
  const more = el("small");
  const failed = el("span");
  cells[6].append(failed, more);
  return {
    node: el("tr", {}, name, ...cells),
    update({ name: text, hash, total, counts }) {
      putWhole(name, text, hash ? `${text}, ${hash}` : text);
      set(name.parentNode, "class", total ? "total" : null);
      const classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map((name) => counts.statuses[name]);
      [counts.requests, ...classes].forEach((number, at) => {
        putWhole(cells[at], count(number), exactly(number));
        set(cells[at], "class", `number${number === 0 ? " zero" : ""}${at === 5 && number > 0 ? " bad" : ""}`);
      });
      const all = counts.requests + counts.turned_over + counts.unanswered;
      const share = all > 0 ? Math.min(counts.failed / all, 1) : 0;
      putWhole(failed, counts.failed > 0 ? `${count(counts.failed)} (${percent(share)})` : "0", exactly(counts.failed));
      put(more, reasons(counts));
      set(cells[6], "class", `number${counts.failed > 0 ? " bad" : " zero"}`);
      const { p50_ms: p50, p90_ms: p90, p99_ms: p99 } = counts.response_times;
      [p50, p90, p99].forEach((ms, at) => put(cells[7 + at], milliseconds(ms)));
      [counts.bytes_from_clients, counts.bytes_to_clients].forEach((number, at) => {
        putWhole(cells[10 + at], bytes(number), `${exactly(number)} bytes`);
      });
    },
  };
}

/** What became of requests that the release did not answer itself. */
function reasons(counts) {
  const parts = [
    [counts.connect_errors, "not connected"],
    [counts.gateway_errors, "answered by the gateway"],
    [counts.turned_over, "turned over to the current release"],
    [counts.broken_off, "broken off in the middle"],
    [counts.unanswered, "failed without an answer"],
  ];
  return parts.filter(([number]) => number > 0).map(([number, text]) => ` ${count(number)} ${text}`).join(",");
}

/** Seconds between two points of the line. */
const STEP = 2;
const POINTS = 60;
const POINTS_MIN = 4;
/** The number tells of so many of the last points. */
const RECENT = 5;

const WIDTH = 120;
const HEIGHT = 24;

/** Requests a second over the last two minutes. Counted by the page, so the line begins with it. */
export function pulse() {
  const line = svg("path", { class: "line" });
  const area = svg("path", { class: "area" });
  const number = el("strong");
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true", preserveAspectRatio: "none", hidden: true }, area, line);
  const node = el("p", { class: "pulse" }, picture, el("span", {}, number, " requests/s"));
  const points = [];
  let last = null;

  function draw() {
    set(picture, "hidden", points.length < POINTS_MIN);
    const highest = Math.max(...points, 1);
    const at = (value, index) => {
      const x = WIDTH - (points.length - 1 - index) * (WIDTH / (POINTS - 1));
      return `${x.toFixed(1)} ${(HEIGHT - 1.5 - (value / highest) * (HEIGHT - 3)).toFixed(1)}`;
    };
    const path = points.map(at).join("L");
    const left = WIDTH - (points.length - 1) * (WIDTH / (POINTS - 1));
    set(line, "d", `M${path}`);
    set(area, "d", `M${left.toFixed(1)} ${HEIGHT}L${path}L${WIDTH} ${HEIGHT}Z`);
  }

  return {
    node,
    /** `total`: requests until now. To be called with each status, and when a while went by without one. */
    update(total) {
      const now = performance.now() / 1_000;
      // A gateway that was started anew counts from nought.
      if (last === null || total < last.total) {
        last = { total, now };
        put(number, "–");
        return;
      }
      const passed = now - last.now;
      if (passed < STEP) return;
      points.push((total - last.total) / passed);
      points.splice(0, points.length - POINTS);
      last = { total, now };
      const recent = points.slice(-RECENT);
      put(number, rate(recent.reduce((sum, value) => sum + value, 0) / recent.length));
      draw();
    },
  };
}

/** Requests of an application since the gateway's start. */
export function requestsOf(status) {
  return status.since_last_switch.requests + (status.before_last_switch?.requests ?? 0);
}
