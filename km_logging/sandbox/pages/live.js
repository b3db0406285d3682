// The live page: calls as they arrive, newest first.
//
// Calls come in one by one and are drawn together, once a frame at most; of what is held only the newest ones that
// the filter chooses are in the page, so that thousands of calls cost no more than some hundred.

import { card, make } from "./card.js";
import { FILTERS, Filter, Held, keyOf } from "./held.js";
import { watch } from "./stream.js";

/** So many cards are drawn at first, and with each "older ones". */
const STEP = 100;

/** So many of the most frequent people, events and properties stand at the side. */
const MOST = 12;

/** Seconds that the chart shows. */
const SPAN = 60;

const find = (id) => document.getElementById(id);
const [list, more, nothing, pauseButton, search] = ["calls", "more", "nothing", "pause", "search"].map(find);

let held = new Held(10_000);
let filter = new Filter(new URLSearchParams(location.search));
let shown = STEP; // cards at most
let waiting = []; // came, and are not in `held` yet: until the next frame, or while paused
let isPaused = false;
let isAsked = false; // for a frame
let isAnew = true; // all cards must be drawn again
let arrivals = []; // [second, calls] of the last minute, by this page's clock
let status = { capacity: 10_000, forgotten: 0, db: null };

// From the server.

const told = {
  anew(answer) {
    status = answer;
    held = new Held(status.capacity);
    waiting = [];
    isAnew = true;
    draw();
  },
  call(call, isNew) {
    if (isNew) count(1);
    waiting.push(call);
    if (waiting.length > held.capacity * 1.05) waiting.splice(0, waiting.length - held.capacity);
    draw();
  },
  clear(lastId) {
    held.clear();
    waiting = waiting.filter((call) => call.id > lastId);
    isAnew = true;
    draw();
  },
  state: say,
};

function say(text, isWell) {
  const state = find("state");
  if (state.textContent !== text) state.textContent = text;
  state.classList.toggle("bad", !isWell);
}

// Drawing.

function draw() {
  if (isAsked) return;
  isAsked = true;
  // Where the page is in the background there are no frames.
  if (document.hidden) setTimeout(drawn, 250);
  else requestAnimationFrame(drawn);
}

function drawn() {
  isAsked = false;
  if (isPaused) {
    pauseButton.textContent = waiting.length ? `Resume (${waiting.length.toLocaleString()} new)` : "Resume";
    if (!isAnew) return;
  } else {
    const came = waiting;
    waiting = [];
    for (const call of came) held.add(call);
    if (!isAnew) prepend(came);
  }
  if (isAnew) redraw();
  drawCounts();
}

function prepend(came) {
  const fitting = came.filter((call) => filter.takes(call)).slice(-shown);
  if (!fitting.length) return;
  list.prepend(...fitting.reverse().map((call) => card(call, choose)));
  while (list.children.length > shown) list.lastElementChild.remove();
  total += fitting.length;
  drawEnd();
}

let total = 0; // calls that the filter chooses

function redraw() {
  isAnew = false;
  const [calls, all] = held.chosen(filter, shown);
  total = all;
  keepingFocus(() => list.replaceChildren(...calls.map((call) => card(call, choose))));
  drawFilter();
  drawEnd();
}

/** Where what is focused is drawn anew, its successor is focused: the same card or, if it is gone, the list. */
function keepingFocus(change) {
  const id =
    document.activeElement?.closest?.(".call, .chip") && (document.activeElement.closest(".call")?.dataset.id ?? "");
  change();
  if (id != null) (list.querySelector(`[data-id="${id}"]`) ?? list).focus();
}

function drawEnd() {
  more.hidden = list.children.length >= total;
  nothing.hidden = list.children.length > 0;
  nothing.querySelector("[data-for=none]").hidden = held.length > 0;
  nothing.querySelector("[data-for=filter]").hidden = held.length === 0;
}

let nextCounts = 0;

/** The side, four times a second at most: people read it, and sorting has its price. */
function drawCounts() {
  nextCounts ||= setTimeout(() => {
    nextCounts = 0;
    for (const noun of ["person", "event", "property"]) drawMost(noun);
    const holds = `${held.length.toLocaleString()} of at most ${held.capacity.toLocaleString()} calls held`;
    const where = status.db ? `in ${status.db}` : "in memory";
    find("held").textContent = `${holds} ${where}; older ones are forgotten`;
    find("problem-count").textContent = held.problems.toLocaleString();
    document.title = `${held.length.toLocaleString()} calls · km_logging sandbox`;
  }, 250);
}

function drawMost(noun) {
  const side = find(`most-${noun}`);
  const focused = side.contains(document.activeElement) ? document.activeElement.dataset.text : null;
  const chosen = keyOf(noun, filter[noun]);
  const buttons = held.most(noun, MOST).map(({ text, count }) => {
    const isPressed = keyOf(noun, text) === chosen;
    const press = () => choose(noun, isPressed ? "" : text);
    const parts = [make("span", {}, text), make("b", {}, count.toLocaleString())];
    return make(
      "button",
      { type: "button", "data-text": text, "aria-pressed": `${isPressed}`, click: press },
      ...parts,
    );
  });
  side.replaceChildren(...buttons.map((button) => make("li", {}, button)));
  if (focused !== null) buttons.find((button) => button.dataset.text === focused)?.focus();
}

function drawFilter() {
  const chips = FILTERS.filter(
    (name) => filter[name] && name !== "search" && name !== "kind" && name !== "problems",
  ).map((name) =>
    make(
      "button",
      { type: "button", class: "chip", title: "take this filter away", click: () => choose(name, "") },
      `${name}: ${filter[name]} `,
      make("span", { "aria-hidden": "true" }, "×"),
    ),
  );
  keepingFocus(() => find("chips").replaceChildren(...chips));
  for (const button of document.querySelectorAll("[data-filter]")) {
    const { filter: name, value } = button.dataset;
    button.setAttribute("aria-pressed", String(filter[name] === value));
  }
  if (search.value !== filter.search) search.value = filter.search;
}

function choose(name, value) {
  filter[name] = value;
  shown = STEP;
  const query = filter.parameters.toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  isAnew = true;
  draw();
}

// The chart: calls a second.

function count(calls) {
  const now = Math.floor(Date.now() / 1000);
  if (arrivals.at(-1)?.[0] === now) arrivals.at(-1)[1] += calls;
  else arrivals.push([now, calls]);
}

const bars = Array.from({ length: SPAN }, (_, at) => {
  const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  bar.setAttribute("x", at * 4);
  bar.setAttribute("width", 3);
  find("chart").append(bar);
  return bar;
});

function drawChart() {
  const now = Math.floor(Date.now() / 1000);
  arrivals = arrivals.filter(([second]) => second > now - SPAN);
  const most = Math.max(1, ...arrivals.map(([, calls]) => calls));
  const by = new Map(arrivals);
  bars.forEach((bar, at) => {
    const calls = by.get(now - SPAN + 1 + at) ?? 0;
    const height = calls ? Math.max(1.5, (calls / most) * 36) : 0;
    bar.setAttribute("y", 36 - height);
    bar.setAttribute("height", height);
  });
  const last = by.get(now - 1) ?? 0;
  find("rate").textContent = `${last.toLocaleString()} calls/s`;
  find("chart").setAttribute(
    "aria-label",
    `calls a second over the last minute: now ${last}, at most ${arrivals.length ? most : 0}`,
  );
}

// What people do.

function pause() {
  isPaused = !isPaused;
  pauseButton.setAttribute("aria-pressed", String(isPaused));
  pauseButton.textContent = isPaused ? "Resume" : "Pause";
  draw();
}

async function clear() {
  try {
    status = await (await fetch("/api/status")).json(); // the file may have failed since
    if (status.db && !confirm(`Forget all calls in ${status.db}?`)) return;
    await fetch("/api/calls", { method: "DELETE" });
  } catch {
    say("the sandbox does not answer; nothing is cleared", false);
  }
}

function move(step) {
  const cards = [...list.children];
  const at = cards.indexOf(document.activeElement?.closest?.(".call"));
  const next = cards[at < 0 ? 0 : Math.min(cards.length - 1, Math.max(0, at + step))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

const KEYS = { "/": () => search.focus(), p: pause, j: () => move(1), k: () => move(-1) };

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "Escape" && event.target === search) {
    choose("search", "");
    search.blur();
  }
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

find("tools").addEventListener("submit", (event) => event.preventDefault());
pauseButton.addEventListener("click", pause);
find("clear").addEventListener("click", clear);
search.addEventListener("input", () => choose("search", search.value));
more.addEventListener("click", () => {
  shown += STEP;
  isAnew = true;
  draw();
});
for (const button of document.querySelectorAll("[data-filter]"))
  button.addEventListener("click", () =>
    choose(button.dataset.filter, filter[button.dataset.filter] === button.dataset.value ? "" : button.dataset.value),
  );

for (const element of document.querySelectorAll("[data-origin]")) element.textContent = location.origin;
setInterval(drawChart, 1000);
drawChart();
watch(told);
