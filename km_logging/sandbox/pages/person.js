// The page of a person: what the sandbox holds of all identities that are aliased to one.

import { card, make, personLink } from "./card.js";

const find = (id) => document.getElementById(id);
const id = new URLSearchParams(location.search).get("id") ?? "";

find("person").textContent = id;
document.title = `${id} · km_logging sandbox`;

async function show() {
  const answer = await fetch(`/api/person?${new URLSearchParams({ id })}`);
  const { identities, properties, calls } = await answer.json();
  find("merged").hidden = identities.length < 2;
  find("identities").replaceChildren(
    ...identities.map((it) => make("li", {}, it === id ? it : make("a", { href: personLink(it) }, it))),
  );
  const facts = Object.entries(properties).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
  find("properties").replaceChildren(...(facts.length ? facts : [make("dt", {}, "none")]));
  find("calls").replaceChildren(...calls.map((call) => card(call)));
  find("count").textContent = calls.length.toLocaleString();
  find("nothing").hidden = calls.length > 0;
}

let isAsked = false;

/** All anew, but not more often than one can look. */
function showSoon() {
  if (isAsked) return;
  isAsked = true;
  setTimeout(() => {
    isAsked = false;
    show();
  }, 300);
}

function say(text, isWell) {
  find("state").textContent = text;
  find("state").classList.toggle("bad", !isWell);
}

// Any call may be an alias that joins this person with another one, so each is a reason to look.
const stream = new EventSource("/api/stream");
stream.onopen = () => {
  say("connected", true);
  showSoon();
};
stream.onmessage = showSoon;
stream.addEventListener("clear", showSoon);
stream.onerror = () => say("the sandbox does not answer; trying again", false);
show();
