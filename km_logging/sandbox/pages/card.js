// A call as an element of the page, and the few things that all pages do with elements.
//
// Every text goes into the page as text: nothing that a request holds is ever read as HTML.

import { asAssertion, asLogLine, asURL } from "./forms.js";

/** An element: `make("a", {href: "/", class: "quiet"}, "text", another)`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  element.append(...children);
  return element;
}

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Not a secure context (a name of --allow-host over http), or not allowed: the old way.
    const area = make("textarea", { class: "offscreen" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.classList.add("copied");
  setTimeout(() => button.classList.remove("copied"), 1200);
}

/** A button that copies what `text()` says. */
export function copyButton(label, text) {
  const press = (event) => copy(text(), event.currentTarget);
  return make("button", { type: "button", class: "small", "aria-label": `copy as ${label}`, click: press }, label);
}

const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

export function moment(seconds) {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return `_t=${seconds}`;
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? CLOCK.format(date) : `${DAY.format(date)}, ${CLOCK.format(date)}`;
}

/** How old its time was when a call came: "3 s", "2 h". */
export function age(seconds) {
  const units = [
    [86400 * 365, "years"],
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const [size, unit] = units.find(([size]) => seconds >= size) ?? [1, "s"];
  return `${Math.floor(seconds / size).toLocaleString()} ${unit}`;
}

function timeOf(call) {
  const received = make("time", { datetime: iso(call.received_at), title: `received ${iso(call.received_at)}` });
  if (call.kind === "alias" || call.timestamp === null) {
    received.append(moment(call.received_at));
    return [received, call.kind === "alias" ? "" : make("span", { class: "quiet" }, "the server’s clock")];
  }
  const late = call.received_at - call.timestamp;
  received.append(moment(call.timestamp));
  const words = late >= 2 ? `came ${age(late)} later` : late < -1 ? `${age(-late)} in the future` : "";
  return [received, words && make("span", { class: late > 300 || late < -1 ? "late" : "quiet" }, words)];
}

function iso(seconds) {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString();
}

export const personLink = (person) => `/person?id=${encodeURIComponent(person.toWellFormed?.() ?? person)}`;

const DUPLICATE = {
  event: "same person, name, second and properties as an earlier call: Kissmetrics counts both as one",
  set: "same person, second and properties as an earlier call: Kissmetrics sets them once",
  alias: "these two identities were aliased before",
};

/**
 * The card of a call.
 *
 * `choose(noun, value)` is called for the person, event or property that is pressed; without it there is nothing to press.
 */
export function card(call, choose = null) {
  const label = `${call.kind} ${call.name ?? ""} of ${call.person}`;
  return make(
    "article",
    { class: `call ${call.kind}`, "data-id": call.id, tabindex: "-1", "aria-label": label },
    make(
      "header",
      {},
      make("span", { class: "kind" }, call.kind),
      nameOf(call, choose),
      make("span", { class: "who" }, ...peopleOf(call, choose)),
      call.duplicate ? make("span", { class: "duplicate", title: DUPLICATE[call.kind] }, "counted once") : "",
      make("span", { class: "when" }, ...timeOf(call)),
    ),
    propertiesOf(call, choose),
    problemList(call.problems),
    copiesOf(call),
  );
}

function chosen(noun, value, className, choose) {
  if (!choose) return make("span", { class: className }, value);
  const press = () => choose(noun, value);
  return make(
    "button",
    { type: "button", class: `link ${className}`, title: `only this ${noun}`, click: press },
    value,
  );
}

function nameOf(call, choose) {
  if (call.kind === "set") return make("span", { class: "name quiet" }, "properties");
  if (call.kind === "alias") return make("span", { class: "name quiet" }, "one person");
  if (!call.name?.trim()) return make("span", { class: "missing" }, call.name ? "blank name" : "no name");
  return chosen("event", call.name, "name", choose);
}

function peopleOf(call, choose) {
  if (!call.person.trim()) return [make("span", { class: "missing" }, call.person ? "blank person" : "nobody")];
  const people = [chosen("person", call.person, "person", choose)];
  if (choose) {
    const label = `the page of ${call.person}`;
    people.push(make("a", { href: personLink(call.person), class: "open", title: label, "aria-label": label }, "↗"));
  }
  if (call.kind === "alias") people.push(" = ", make("span", { class: "person" }, call.identity ?? ""));
  return people;
}

function propertiesOf(call, choose) {
  const pairs = Object.entries(call.properties).map(([name, value]) =>
    make("div", {}, make("dt", {}, chosen("property", name, "", choose)), make("dd", {}, value)),
  );
  return pairs.length ? make("dl", {}, ...pairs) : "";
}

/** Problems as a list, each with its remedy; an empty text if there are none. */
export function problemList(problems) {
  const items = problems.map((it) =>
    make("li", { "data-kind": it.kind }, `${it.message}: `, make("em", {}, it.remedy)),
  );
  return items.length ? make("ul", { class: "problems" }, ...items) : "";
}

function copiesOf(call) {
  return make(
    "footer",
    {},
    make("span", { class: "quiet" }, "copy as"),
    copyButton("URL", () => asURL(call, location.origin)),
    copyButton("log line", () => asLogLine(call)),
    copyButton("test assertion", () => asAssertion(call)),
  );
}
