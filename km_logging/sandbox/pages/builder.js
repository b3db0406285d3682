// The URL builder: a form becomes a URL as one types, checked by the very checks that the sandbox makes of a call.

import { copy, make, moment, problemList } from "./card.js";
import { PATHS, asLogLine, asStructlogLine, query } from "./forms.js";

const find = (id) => document.getElementById(id);
const form = find("form");

/** The form as a call; its time stays text here, so that what is wrong with it can be said. */
function read() {
  const kind = form.elements.kind.value;
  const pairs =
    kind === "alias"
      ? []
      : [...find("pairs").children].map((row) => [...row.querySelectorAll("input")].map((it) => it.value));
  return {
    kind,
    key: find("key").value,
    person: find("person").value,
    name: find("name").value,
    identity: find("identity").value,
    pairs: pairs.filter(([name, value]) => name || value),
    time: kind === "alias" ? "" : find("time").value.trim(),
  };
}

function parametersOf({ kind, key, person, name, identity, pairs, time }) {
  const named = { event: [["_n", name]], set: [], alias: [["_n", identity]] }[kind];
  return [
    ["_k", key],
    ["_p", person],
    ...named,
    ...pairs,
    ...(time
      ? [
          ["_t", time],
          ["_d", "1"],
        ]
      : []),
  ];
}

/** As `forms.js` takes a call: the log lines have only what can be told. */
function callOf({ kind, person, name, identity, pairs, time }) {
  return {
    kind,
    person,
    name: kind === "event" ? name : null,
    identity: kind === "alias" ? identity : null,
    properties: Object.fromEntries(pairs),
    timestamp: /^\d{1,15}$/.test(time) ? Number(time) : null,
  };
}

const UNCHECKED = { kind: "unchecked", message: "the sandbox does not answer", remedy: "start it again" };

/** What the sandbox would find wrong with a call. */
async function check(kind, parameters) {
  try {
    return (await (await fetch(`/api/check/${kind}?${parameters}`)).json()).problems;
  } catch {
    return [UNCHECKED];
  }
}

let latest = 0;

async function show() {
  const wanted = ++latest;
  const told = read();
  for (const part of form.querySelectorAll("[data-for]"))
    part.hidden = !part.dataset.for.split(" ").includes(told.kind);
  const path = PATHS[told.kind];
  find("url").textContent = `${find("server").value || location.origin}${path}?${query(parametersOf(told))}`;
  find("line").textContent = asLogLine(callOf(told));
  find("structlog").textContent = asStructlogLine(callOf(told));
  find("reads").textContent = /^\d{1,12}$/.test(told.time)
    ? `${new Date(Number(told.time) * 1000).toUTCString()}; here ${moment(Number(told.time))}`
    : "";
  find("sent").replaceChildren();
  // The key does not leave the page for that: whether there is one is all that is checked.
  const checked = query(parametersOf({ ...told, key: told.key && "key" }));
  const found = await check(told.kind, checked);
  if (wanted !== latest) return;
  find("problems").replaceChildren(problemList(found));
  find("sound").hidden = found.length > 0;
}

let pairs = 0; // properties added so far

function addPair(name = "", value = "") {
  const number = ++pairs;
  const input = (what, text) => {
    const element = make("input", { "aria-label": `${what} of property ${number}`, placeholder: what });
    element.value = text;
    return element;
  };
  const row = make(
    "div",
    { class: "pair" },
    input("name", name),
    input("value", value),
    make(
      "button",
      {
        type: "button",
        "aria-label": `take property ${number} away`,
        click: () => {
          row.remove();
          show();
        },
      },
      "×",
    ),
  );
  find("pairs").append(row);
  return row;
}

async function send() {
  const told = read();
  try {
    const answer = await fetch(`${PATHS[told.kind]}?${query(parametersOf(told))}`);
    find("sent").replaceChildren(
      answer.ok ? "Sent: " : `Answered ${answer.status}: `,
      make("a", { href: "/" }, "see it arrive"),
    );
  } catch {
    find("sent").textContent = "The sandbox does not answer: start it again.";
  }
}

find("add").addEventListener("click", () => {
  addPair().querySelector("input").focus();
  show();
});
find("now").addEventListener("click", () => {
  find("time").value = Math.floor(Date.now() / 1000);
  show();
});
find("send").addEventListener("click", send);
form.addEventListener("input", show);
form.addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll("[data-copy]"))
  button.addEventListener("click", () => copy(find(button.dataset.copy).textContent, button));

addPair("gender", "male");
find("time").value = "1262304000";
show();
