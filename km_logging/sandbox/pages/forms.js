// A call in other forms: as URL, as log line, as structlog line, as the assertion of a test. Pure.
//
// A call is what /api/calls holds: {kind, person, name, identity, timestamp, properties}. Each form can be pasted as it
// is; all text is quoted by the rules of the language it goes into.

export const PATHS = { event: "/e", set: "/s", alias: "/a" };

/** Stands for the key, which no call holds. */
export const KEY = "YOUR_API_KEY";

const MESSAGES = { set: "Properties set", alias: "Identities linked" };
const KEYWORDS = new Set(
  (
    "False None True and as assert async await break class continue def del elif else except finally for from global " +
    "if import in is lambda nonlocal not or pass raise return try while with yield timestamp properties"
  ).split(" "),
);

/** As Python's `urllib.parse.quote_plus`. */
export function quoted(text) {
  return encodeURIComponent(text.toWellFormed?.() ?? text)
    .replace(/[!'()*]/g, (sign) => "%" + sign.charCodeAt(0).toString(16).toUpperCase())
    .replaceAll("%20", "+");
}

/** The pairs of a call's query, in the order of the specification. */
export function parameters(call, key = KEY) {
  const pairs = [
    ["_k", key],
    ["_p", call.person],
  ];
  if (call.kind === "event") pairs.push(["_n", call.name ?? ""]);
  if (call.kind === "alias") return [...pairs, ["_n", call.identity ?? ""]];
  pairs.push(...Object.entries(call.properties));
  if (call.timestamp !== null) pairs.push(["_t", String(call.timestamp)], ["_d", "1"]);
  return pairs;
}

export function query(pairs) {
  return pairs.map(([name, value]) => `${quoted(name)}=${quoted(value)}`).join("&");
}

export function asURL(call, origin, key = KEY) {
  return `${origin}${PATHS[call.kind]}?${query(parameters(call, key))}`;
}

/** A literal of Python's; JSON's differ from it in nothing that a text can hold. */
const python = (text) => JSON.stringify(text ?? "");

function mapping(properties) {
  return `{${Object.entries(properties)
    .map(([name, value]) => `${python(name)}: ${python(value)}`)
    .join(", ")}}`;
}

/** The properties as arguments of `km.event` and `km.set`: keywords, or a mapping where names are no identifiers. */
function propertyArguments(properties) {
  const names = Object.keys(properties);
  if (names.every((name) => /^[A-Za-z_]\w*$/.test(name) && !KEYWORDS.has(name)))
    return names.map((name) => `${name}=${python(properties[name])}`);
  return [`properties=${mapping(properties)}`];
}

/** `km.event(..)`, `km.set(..)` or `km.alias(..)`. */
function helper(call) {
  if (call.kind === "alias") return `km.alias(${python(call.person)}, ${python(call.identity)})`;
  const time = call.timestamp === null ? [] : [`timestamp=${call.timestamp}`];
  return `km.${call.kind}(${[python(call.person), ...propertyArguments(call.properties), ...time].join(", ")})`;
}

function message(call) {
  return python(MESSAGES[call.kind] ?? call.name);
}

export function asLogLine(call) {
  return `logger.info(${message(call)}, extra=${helper(call)})`;
}

export function asStructlogLine(call) {
  return `log.info(${message(call)}, **${helper(call)})`;
}

/** For a test with the fixture `km_calls`; the time differs from run to run. */
export function asAssertion(call) {
  const told = call.kind === "alias" ? call.identity : call.name;
  const field = call.kind === "alias" ? "identity" : "name";
  const expected = [
    python(call.kind),
    python(call.person),
    told === null ? "None" : python(told),
    mapping(call.properties),
  ];
  return `assert (${expected.join(", ")}) in [(it.kind, it.person, it.${field}, it.properties) for it in km_calls]`;
}
