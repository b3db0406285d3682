// The calls that the page holds, their counts, and which of them a filter chooses. Pure: no element, no clock.

/** What can be counted and filtered by, and what a call has of it; names do not differ by their case. */
const NOUNS = {
  person: (call) => (call.person === "" ? [] : [call.person]),
  event: (call) => (call.name ? [call.name] : []),
  property: (call) => Object.keys(call.properties),
};

export const keyOf = (noun, text) => (noun === "person" ? text : text.toLowerCase());

export class Held {
  /** How many at the front of `calls` are forgotten: to take one away costs as much as to take away some hundred. */
  #forgotten = 0;

  /** At most `capacity` calls, as many as the server holds. */
  constructor(capacity) {
    this.capacity = capacity;
    this.clear();
  }

  clear() {
    this.#forgotten = 0;
    this.calls = []; // oldest first
    this.problems = 0; // calls with problems, or counted as one with an earlier call
    this.counts = { person: new Map(), event: new Map(), property: new Map() };
  }

  add(call) {
    this.calls.push(call);
    this.#count(call, 1);
    this.#forgetOld();
  }

  get length() {
    return this.calls.length - this.#forgotten;
  }

  #forgetOld() {
    if (this.length > this.capacity) this.#count(this.calls[this.#forgotten++], -1);
    if (this.#forgotten > this.capacity / 20) {
      this.calls.splice(0, this.#forgotten);
      this.#forgotten = 0;
    }
  }

  #count(call, step) {
    if (isWrong(call)) this.problems += step;
    for (const [noun, of] of Object.entries(NOUNS)) {
      for (const text of of(call)) {
        const key = keyOf(noun, text);
        const entry = this.counts[noun].get(key) ?? { text, count: 0 };
        entry.count += step;
        if (entry.count) this.counts[noun].set(key, entry);
        else this.counts[noun].delete(key);
      }
    }
  }

  /** The most frequent ones, as [{text, count}]. */
  most(noun, limit) {
    return [...this.counts[noun].values()]
      .sort((a, b) => b.count - a.count || (a.text < b.text ? -1 : 1))
      .slice(0, limit);
  }

  /** The newest `limit` calls that a filter chooses, newest first; and how many it chooses in all. */
  chosen(filter, limit) {
    const found = [];
    let total = 0;
    for (let at = this.calls.length - 1; at >= this.#forgotten; at--) {
      if (!filter.takes(this.calls[at])) continue;
      total++;
      if (found.length < limit) found.push(this.calls[at]);
    }
    return [found, total];
  }
}

export const FILTERS = ["kind", "person", "event", "property", "problems", "search"];

/** Which calls are shown. An empty text chooses all. */
export class Filter {
  constructor(parameters = new URLSearchParams()) {
    for (const name of FILTERS) this[name] = parameters.get(name) ?? "";
  }

  get parameters() {
    return new URLSearchParams(FILTERS.filter((name) => this[name]).map((name) => [name, this[name]]));
  }

  get isEmpty() {
    return FILTERS.every((name) => !this[name]);
  }

  takes(call) {
    return (
      (!this.kind || call.kind === this.kind) &&
      (!this.person || call.person === this.person || call.identity === this.person) &&
      (!this.event || (call.name ?? "").toLowerCase() === this.event.toLowerCase()) &&
      (!this.property || NOUNS.property(call).some((name) => name.toLowerCase() === this.property.toLowerCase())) &&
      (!this.problems || isWrong(call)) &&
      (!this.search || textOf(call).includes(this.search.toLowerCase()))
    );
  }
}

const isWrong = (call) => call.problems.length > 0 || call.duplicate;

const texts = new WeakMap();

function textOf(call) {
  let text = texts.get(call);
  if (text === undefined) {
    const problems = call.problems.map((it) => it.message);
    text = [
      call.kind,
      call.person,
      call.name ?? "",
      call.identity ?? "",
      ...Object.entries(call.properties).flat(),
      ...problems,
    ]
      .join("\n")
      .toLowerCase();
    texts.set(call, text);
  }
  return text;
}
