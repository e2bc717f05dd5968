// Making elements and changing them in place. Whatever comes from the gateway is set as text: nothing
// here, or anywhere on this page, reads a string as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `on…` functions become listeners; `null`, `undefined` and `false` leave an attribute out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else set(node, name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Sets an attribute, or takes it away; touches nothing when it is so already. */
export function set(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

/** Sets an element's text; touches nothing when it is so already, so that a selection stays. */
export function put(node, text) {
  const wanted = text === null || text === undefined ? "" : String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Text with a whole value behind it, which a pointer and a screen reader's details show. */
export function putWhole(node, text, whole) {
  put(node, text);
  set(node, "title", whole === text ? null : whole);
}

/**
 * Shows or hides. What has the focus is not taken away from under somebody's hands: it stays, marked as
 * not to be used, until the focus has left it.
 */
export function show(node, visible) {
  if (visible) {
    node.hidden = false;
    set(node, "aria-disabled", null);
  } else if (node === document.activeElement) {
    set(node, "aria-disabled", "true");
    node.addEventListener("blur", () => {
      if (node.getAttribute("aria-disabled")) node.hidden = true;
    }, { once: true });
  } else {
    node.hidden = true;
  }
}

const listed = new WeakMap();

/**
 * Brings a parent's children, behind those that it had at first, in line with a list: one row an item, told
 * apart by `key`. `create` makes `{ node, update(item), ended?() }` for an item that is new. Rows stay the
 * same elements for as long as their item is there, so that the focus, a selection and an open detail stay.
 */
export function keyed(parent, items, key, create) {
  if (!listed.has(parent)) listed.set(parent, { rows: new Map(), behind: parent.lastElementChild });
  const list = listed.get(parent);
  const before = list.rows;
  const rows = new Map();
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  for (const item of items) {
    const name = key(item);
    rows.set(name, before.get(name) ?? create(item));
  }
  for (const [name, row] of before) {
    if (rows.has(name)) continue;
    if (focused && row.node.contains(focused)) focusNear(parent);
    row.ended?.();
    row.node.remove();
  }
  let place = list.behind ? list.behind.nextElementSibling : parent.firstElementChild;
  for (const row of rows.values()) {
    if (row.node === place) place = place.nextElementSibling;
    else parent.insertBefore(row.node, place);
  }
  list.rows = rows;
  for (const item of items) rows.get(key(item)).update(item);
  // An element that is moved loses the focus.
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/** Where the focus goes when what had it is gone: the heading above. */
function focusNear(parent) {
  const heading = parent.closest("section")?.querySelector("h2, h3");
  heading?.focus({ preventScroll: true });
}

/** A table's head. The column of the buttons has a name that only screen readers tell. */
export function head(...columns) {
  const cells = columns.map(([text, attributes]) =>
    el("th", { scope: "col", role: "columnheader", ...attributes },
      attributes?.class === "buttons" ? el("span", { class: "unseen" }, text) : text));
  return el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...cells));
}

/** A cell. On a narrow screen, where rows become blocks, the label stands before its content. */
export function cell(label, attributes, ...children) {
  return el("td", { role: "cell", "data-label": label, ...attributes }, ...children);
}

const live = document.getElementById("announcements");
const SPOKEN_MAX = 4;
let spoken = [];

/** Tells those who do not see the page what has changed; what comes at once is told at once. */
export function announce(text) {
  spoken.push(text);
  if (spoken.length > 1) return;
  setTimeout(() => {
    const more = spoken.length - SPOKEN_MAX;
    const told = spoken.slice(0, SPOKEN_MAX).join(". ");
    put(live, more > 0 ? `${told}. And ${more} more changes.` : `${told}.`);
    spoken = [];
  }, 150);
}
