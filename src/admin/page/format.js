// Numbers, times and sizes as people read them.

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const hourAndMinute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

export function count(number) {
  return number < 100_000 ? whole.format(number) : compact.format(number);
}

export function exactly(number) {
  return whole.format(number);
}

/** One thing, or several. */
export function several(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** `45 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`. */
export function duration(seconds) {
  const all = Math.max(0, Math.round(seconds));
  const parts = [
    [Math.floor(all / 86_400), "d"],
    [Math.floor(all / 3_600) % 24, "h"],
    [Math.floor(all / 60) % 60, "min"],
    [all % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return "0 s";
  const shown = parts.slice(first, first + 2).filter(([value]) => value > 0);
  return shown.map(([value, unit]) => `${value} ${unit}`).join(" ");
}

/** Milliseconds; `–` where there are none. */
export function milliseconds(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  return ms < 10_000 ? `${(ms / 1_000).toFixed(1)} s` : duration(ms / 1_000);
}

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = number;
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function percent(share) {
  if (share === 0) return "0 %";
  if (share < 0.0001) return "< 0.01 %";
  return `${(share * 100).toFixed(share < 0.01 ? 2 : 1)} %`;
}

export function rate(aSecond) {
  if (aSecond === 0) return "0";
  return aSecond < 10 ? aSecond.toFixed(1) : count(Math.round(aSecond));
}

/** The time of day of a moment. */
export function timeOfDay(date) {
  return clock.format(date);
}

/** A moment that the gateway tells in RFC 3339: the time, with the day when that is not today. */
export function moment(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return text;
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? hourAndMinute.format(date) : `${day.format(date)}, ${hourAndMinute.format(date)}`;
}

/** How long ago that was. */
export function ago(text) {
  const seconds = (Date.now() - new Date(text).getTime()) / 1_000;
  if (Number.isNaN(seconds)) return "";
  return seconds < 5 ? "just now" : `${roughly(seconds)} ago`;
}

/** For what goes on for long: without the seconds when there are many of them. */
export function roughly(seconds) {
  return duration(seconds < 120 ? seconds : Math.floor(seconds / 60) * 60);
}

/** With a full stop, and with a capital letter where it begins with a plain word. */
export function sentence(text) {
  const begun = /^[a-z]+[ ,]/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}

/** The first digits of a hash, as everywhere. */
export function short(hash) {
  return hash.slice(0, 8);
}

/** A release's revision; its hash where it has none. */
export function named(release) {
  return release.revision || short(release.hash);
}
