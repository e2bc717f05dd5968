// Talking to the gateway: requests with the token, problems as they are told, and the stream of statuses.

const TOKEN_KEY = "wakegate.token";

/** Without a byte for so long the stream is taken for dead; the gateway sends one every 15 s. */
const SILENCE_MAX = 40_000;

const RETRY_MIN = 500;
const RETRY_MAX = 15_000;

/** A tab that nobody sees keeps its stream for so long. */
const HIDDEN_MAX = 30_000;

const UNREACHABLE = "the gateway cannot be reached";

/** Why something was not done (RFC 9457), in the gateway's words. */
export class Problem extends Error {
  constructor(status, { detail, title, kind, errors, log } = {}) {
    super(detail || title || `the gateway answered ${status}`);
    this.status = status;
    this.kind = kind;
    this.errors = Array.isArray(errors) ? errors : [];
    this.log = Array.isArray(log) ? log : [];
  }
}

let token = stored();
let asked = null;
let askForToken = async () => null;

function stored() {
  try {
    return sessionStorage.getItem(TOKEN_KEY);
  } catch {
    return null;
  }
}

function store(value) {
  token = value;
  try {
    if (value === null) sessionStorage.removeItem(TOKEN_KEY);
    else sessionStorage.setItem(TOKEN_KEY, value);
  } catch {
    // Then it holds for as long as the page does.
  }
}

/** `ask(reason)` gets a token from whoever sits there; `null` when they will not give one. */
export function onTokenNeeded(ask) {
  askForToken = ask;
}

/** One request as it is; a refusal becomes a `Problem`. */
async function send(method, path, body, signal) {
  const headers = new Headers();
  if (token !== null) headers.set("Authorization", `Bearer ${token}`);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const sent = token;
  const response = await fetch(path, { method, headers, body, signal, cache: "no-store", redirect: "error" });
  if (response.ok) return response;
  const problem = await read(response);
  problem.sent = sent;
  throw problem;
}

/** After a 401: whether there is another token to try now. Whoever needs one meanwhile waits for the same. */
async function renewToken(problem) {
  // Another request may have brought one already.
  if (token !== null && token !== problem.sent) return true;
  store(null);
  asked ??= askForToken(problem.sent === null ? null : problem.message).finally(() => {
    asked = null;
  });
  const given = await asked;
  if (given !== null && token === null) store(given);
  return given !== null;
}

async function read(response) {
  try {
    return new Problem(response.status, await response.json());
  } catch {
    return new Problem(response.status);
  }
}

/** One request; what is not a string is sent as JSON. Gives the answer's JSON, or throws a `Problem`. */
export async function ask(method, path, body) {
  const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
  for (;;) {
    try {
      const response = await send(method, path, text);
      return await response.json();
    } catch (error) {
      if (!(error instanceof Problem)) throw new Problem(0, { detail: UNREACHABLE });
      if (error.status !== 401 || !(await renewToken(error))) throw error;
    }
  }
}

/**
 * Follows the status for as long as the page is open. `onStatus(status)` gets each one;
 * `onLink(link)` how the connection is: `{ state: "live" }`, `{ state: "lost", reason, retryAt }`,
 * `{ state: "connecting" }`, `{ state: "locked" }` where a token is needed.
 */
export function follow(onStatus, onLink) {
  let pause = RETRY_MIN;
  let current = null;
  let wake = () => {};
  let hiding = null;

  async function once() {
    const abort = new AbortController();
    const alive = watchdog(abort);
    current = abort;
    try {
      const response = await send("GET", "events", undefined, abort.signal);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parse = parser((name, data) => {
        if (name !== "status") return;
        const status = JSON.parse(data);
        pause = RETRY_MIN;
        onLink({ state: "live" });
        try {
          onStatus(status);
        } catch (error) {
          // A defect of the page is none of the connection, and is told as what it is.
          reportError(error);
        }
      });
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        alive();
        parse(value);
      }
    } finally {
      alive.end();
      abort.abort();
      current = null;
    }
  }

  /** How the connection is after it has ended, and how long to leave it so; `null`: not at all. */
  async function after(error) {
    if (error instanceof Problem && error.status === 401) {
      onLink({ state: "locked" });
      return (await renewToken(error)) ? null : { state: "locked" };
    }
    if (document.hidden) return { state: "connecting" };
    const wait = pause * (0.75 + Math.random() / 2);
    pause = Math.min(pause * 2, RETRY_MAX);
    const reason = error instanceof Problem ? error.message : UNREACHABLE;
    return { state: "lost", reason, retryAt: Date.now() + wait };
  }

  async function forever() {
    for (;;) {
      const link = await once().then(after, after);
      if (link === null) continue;
      onLink(link);
      await new Promise((resolve) => {
        wake = resolve;
        if (link.state === "lost") setTimeout(resolve, link.retryAt - Date.now());
      });
    }
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => current?.abort(), HIDDEN_MAX);
    else wake();
  });
  window.addEventListener("online", () => wake());
  onLink({ state: "connecting" });
  forever();
  return { retry: () => wake() };
}

/** Aborts when it is not called for too long. */
function watchdog(abort) {
  let timer = null;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), SILENCE_MAX);
  };
  alive.end = () => clearTimeout(timer);
  alive();
  return alive;
}

/** Server-sent events out of pieces of text, as the HTML standard says under "Interpreting an event stream". */
function parser(onEvent) {
  let rest = "";
  let name = "";
  let data = [];
  return (piece) => {
    rest += piece;
    // A carriage return at the end may be the first half of a line's end.
    const lines = rest.split(/\r\n|\n|\r(?=[^])/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) onEvent(name || "message", data.join("\n"));
        name = "";
        data = [];
        continue;
      }
      const at = line.indexOf(":");
      const field = at < 0 ? line : line.slice(0, at);
      const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
      if (field === "event") name = value;
      else if (field === "data") data.push(value);
    }
  };
}
