// The page of a person: what the sandbox holds of all identities that are aliased to one.
//
// It is asked for anew when a call comes that may change it. Of many calls the latest are drawn, and a card that is in
// the page stays there, so that neither focus nor reading position is lost.

import { card, make, personLink } from "./card.js";
import { watch } from "./stream.js";

/** So many cards are drawn at first, and with each "earlier ones". */
const STEP = 100;

/** Milliseconds between two looks at least. */
const PAUSE = 300;

const find = (id) => document.getElementById(id);
const id = new URLSearchParams(location.search).get("id") ?? "";

let identities = new Set([id]);
let calls = [];
let shown = STEP;

async function look() {
  try {
    const answer = await fetch(`/api/person?${new URLSearchParams({ id })}`);
    draw(await answer.json());
  } catch {
    say("the sandbox does not answer; trying again", false);
  }
}

function draw(person) {
  identities = new Set(person.identities);
  calls = person.calls;
  find("merged").hidden = person.identities.length < 2;
  const others = person.identities.map((it) => (it === id ? it : make("a", { href: personLink(it) }, it)));
  find("identities").replaceChildren(...others.map((it) => make("li", {}, it)));
  const facts = Object.entries(person.properties);
  find("properties").replaceChildren(
    ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
  );
  find("none").hidden = facts.length > 0;
  find("count").textContent = calls.length.toLocaleString();
  find("nothing").hidden = calls.length > 0;
  drawCalls();
}

function drawCalls() {
  const list = find("calls");
  const cards = new Map([...list.children].map((it) => [it.dataset.id, it]));
  const latest = calls.slice(-shown).map((call) => cards.get(String(call.id)) ?? card(call));
  for (const it of cards.values()) if (!latest.includes(it)) it.remove();
  latest.forEach((it, at) => {
    if (list.children[at] !== it) list.insertBefore(it, list.children[at] ?? null);
  });
  find("more").hidden = calls.length <= shown;
}

let isAsked = false;

function lookSoon() {
  if (isAsked) return;
  isAsked = true;
  setTimeout(() => {
    isAsked = false;
    look();
  }, PAUSE);
}

function say(text, isWell) {
  find("state").textContent = text;
  find("state").classList.toggle("bad", !isWell);
}

find("person").textContent = id.trim() ? id : "nobody";
document.title = `${id} · km_logging sandbox`;
find("more").addEventListener("click", () => {
  shown += STEP;
  drawCalls();
});
watch(
  {
    anew() {
      find("calls").replaceChildren(); // other calls may have the same ids
      lookSoon();
    },
    call(call) {
      if (call.kind === "alias" || identities.has(call.person)) lookSoon();
    },
    clear: lookSoon,
    state: say,
  },
  true,
);
