"""The pages in a real browser: calls of real handlers, in a real sandbox, seen, filtered, copied and sent there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from playwright import sync_api as playwright
from playwright.sync_api import expect

import km_logging as km
from km_logging.sandbox import Sandbox
from support.system import need
from support.tracking import eventually

#: Without them the browser calls home at each start; as root it has no sandbox of its own.
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()

HOSTILE = """</script><img src=x onerror="document.title='owned'"><b>'"&amp;\u202e\x00\U0001f600 {{7*7}} ${7*7}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    chromium = need("chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, sandbox):
    """Opens a page of the sandbox; at the end, nothing may have gone wrong in it, or have left this machine."""
    contexts, wrong = [], []

    def open_page(path: str = "/", **options: object) -> playwright.Page:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda said: wrong.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("request", lambda it: None if it.url.startswith(sandbox.endpoint) else wrong.append(it.url))
        page.goto(sandbox.endpoint + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def tracker(sandbox) -> Iterator[km.Tracker]:
    with km.Tracker(api_key="secret-key", endpoint=sandbox.endpoint) as tracker:
        yield tracker


def beacon(sandbox: Sandbox, path: str, **parameters: str) -> None:
    """What others than this library send."""
    with urlopen(f"{sandbox.endpoint}{path}?{urlencode(parameters)}") as answer:
        assert answer.status == 200


def cards(page: playwright.Page) -> playwright.Locator:
    return page.locator("#calls .call")


# The live page.


def test_what_a_handler_sends_appears_without_a_reload(open_page, sandbox, logger):
    page = open_page()
    expect(page.locator("#nothing")).to_contain_text(f"KM_ENDPOINT={sandbox.endpoint}")
    logger.addHandler(km.KissmetricsHandler(api_key="secret-key", endpoint=sandbox.endpoint))
    logger.info("Signed Up", extra=km.event("bob", plan="pro"))
    logger.info("Profile saved", extra=km.set("bob", gender="male"))
    logger.info("Accounts linked", extra=km.alias("bob", "bob@bob.com"))
    expect(cards(page)).to_have_count(3)
    event = page.locator(".call.event")
    expect(event).to_contain_text("Signed Up")
    expect(event).to_contain_text("bob")
    expect(event.locator("dl")).to_have_text("planpro")
    expect(page.locator(".call.set dl")).to_have_text("gendermale")
    expect(page.locator(".call.alias")).to_contain_text("bob@bob.com")
    expect(page.locator("#nothing")).to_be_hidden()
    assert "secret-key" not in page.content()


def test_the_newest_call_is_on_top(open_page, sandbox):
    for name in ("first", "second"):
        beacon(sandbox, "/e", _k="k", _p="bob", _n=name)
    page = open_page()
    expect(cards(page).locator(".name")).to_have_text(["second", "first"])
    beacon(sandbox, "/e", _k="k", _p="bob", _n="third")
    expect(cards(page).locator(".name")).to_have_text(["third", "second", "first"])


def test_problems_stand_with_their_remedies_and_duplicates_are_marked(open_page, sandbox):
    for _ in range(2):
        beacon(sandbox, "/e", _k="k", _p="bob", _n="Signed Up", _t="1262304000", _d="1")
    beacon(sandbox, "/e", _k="k", _p="", _n="Paid", _t="1262304000000", _d="1", cart='{"tea": 1}')
    page = open_page()
    expect(page.locator(".duplicate")).to_have_count(1)
    worst = cards(page).first
    expect(worst.locator(".missing")).to_have_text("nobody")
    for kind in ("bad_person", "bad_timestamp", "json_value"):
        expect(worst.locator(f"[data-kind={kind}] em")).not_to_be_empty()
    expect(page.locator("#problem-count")).to_have_text("2")
    page.get_by_role("button", name="problems").click()
    expect(cards(page)).to_have_count(2)


def test_the_most_frequent_ones_stand_at_the_side_and_filter(open_page, tracker):
    for person, name, plan in [("bob", "Signed Up", "pro"), ("ann", "Signed Up", "free"), ("bob", "Paid", "pro")]:
        tracker.event(person, name, plan=plan)
    assert tracker.flush()
    page = open_page()
    expect(page.locator("#most-person li")).to_have_text(["bob2", "ann1"])
    expect(page.locator("#most-event li")).to_have_text(["Signed Up2", "Paid1"])
    expect(page.locator("#most-property li")).to_have_text(["plan3"])
    cards(page).filter(has_text="bob").last.locator("button.person").click()
    expect(cards(page)).to_have_count(2)
    expect(page.locator(".call:focus")).to_contain_text("bob")  # which was drawn anew
    expect(page.locator("#most-person [aria-pressed=true]")).to_have_text("bob2")
    page.locator("#most-event").get_by_role("button", name="Signed Up").click()
    expect(cards(page)).to_have_count(1)
    page.reload()  # the address holds the filter
    expect(cards(page)).to_have_count(1)
    page.locator(".chip", has_text="person: bob").click()
    expect(cards(page)).to_have_count(2)
    expect(page.locator("#calls")).to_be_focused()
    tracker.event("cid", "Paid")
    tracker.event("cid", "Signed Up")
    expect(cards(page)).to_have_count(3)  # what comes is filtered as well


def test_names_that_differ_in_case_only_are_counted_as_one(open_page, sandbox):
    for name in ("Signed Up", "signed up"):
        beacon(sandbox, "/e", _k="k", _p="bob", _n=name)
    page = open_page()
    expect(page.locator("#most-event li")).to_have_text(["Signed Up2"])
    expect(page.locator("[data-kind=case_variant]")).to_have_count(1)


def test_a_search_looks_at_people_names_values_and_problems(open_page, tracker, sandbox):
    tracker.event("bob", "Signed Up", city="Paris")
    tracker.alias("ann", "ann@example.com")
    assert tracker.flush()
    beacon(sandbox, "/e", _k="", _p="cid", _n="Paid")
    page = open_page()
    expect(cards(page)).to_have_count(3)
    for text, kind in [("paRIS", "event"), ("example.com", "alias"), ("_k is missing", "event")]:
        page.get_by_role("searchbox").fill(text)
        expect(cards(page)).to_have_count(1)
        expect(page.locator(f".call.{kind}")).to_have_count(1)
    page.get_by_role("searchbox").fill("no such thing")
    expect(page.locator("#nothing")).to_have_text("No call held fits the filter.", use_inner_text=True)
    page.get_by_role("searchbox").press("Escape")
    expect(cards(page)).to_have_count(3)


def test_while_paused_calls_are_kept_and_shown_afterwards(open_page, tracker):
    page = open_page()
    expect(page.locator("#state")).to_have_text("connected")
    page.get_by_role("button", name="Pause").click()
    tracker.event("bob", "Signed Up")
    tracker.event("bob", "Paid")
    expect(page.locator("#pause")).to_have_text("Resume (2 new)")
    expect(cards(page)).to_have_count(0)
    page.locator("#pause").click()
    expect(cards(page)).to_have_count(2)
    expect(page.locator("#pause")).to_have_text("Pause")


def test_clearing_reaches_every_page_that_is_open(open_page, sandbox, tracker):
    first, second = open_page(), open_page()
    tracker.event("bob", "Signed Up")
    expect(cards(second)).to_have_count(1)
    first.get_by_role("button", name="Clear").click()
    for page in (first, second):
        expect(cards(page)).to_have_count(0)
        expect(page.locator("#held")).to_contain_text("0 of at most 10,000 calls held in memory")
    assert sandbox.calls == []
    tracker.event("ann", "Paid")
    expect(cards(second)).to_have_count(1)


def test_everything_can_be_done_by_keyboard(open_page, tracker):
    for number in range(3):
        tracker.event("bob", f"Step {'abc'[number]}")
    assert tracker.flush()
    page = open_page()
    expect(cards(page)).to_have_count(3)
    page.keyboard.press("j")
    page.keyboard.press("j")
    focused = page.evaluate("document.activeElement.dataset.id")
    page.keyboard.press("k")
    assert int(page.evaluate("document.activeElement.dataset.id")) == int(focused) + 1
    page.keyboard.press("/")
    page.keyboard.type("step pj")  # no shortcut while one types
    expect(page.get_by_role("searchbox")).to_have_value("step pj")
    expect(page.locator("#pause")).to_have_text("Pause")
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    page.locator("#most-person button").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_have_count(1)
    expect(page.locator("#most-person button")).to_be_focused()  # also after it was drawn anew


def test_the_chart_shows_calls_a_second(open_page, tracker):
    page = open_page()
    expect(page.locator("#state")).to_have_text("connected")
    for number in range(20):
        tracker.event(f"p{number}", "Signed Up")
    expect(page.locator("#chart")).to_have_attribute("aria-label", re.compile("at most [1-9]"))
    expect(page.locator("#chart rect[height='36']").first).to_be_attached()


@pytest.mark.parametrize("path", ["/", "/builder", "/person?id=bob"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_readable_in_light_and_dark_and_fit_a_narrow_screen(open_page, tracker, path, scheme):
    tracker.event("bob", "Signed Up", long="x" * 500, **{"a" * 200: "y" * 300})
    assert tracker.flush()
    page = open_page(path, color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    if path != "/builder":
        expect(page.locator(".call")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (_luminance(ground) < _luminance(ink)) == (scheme == "dark")
    assert _contrast(ground, ink) >= 7


def _luminance(color: str) -> float:
    channels = [int(part) / 255 for part in color.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("path", ["/", "/person?{id}"])
def test_whatever_a_request_holds_is_shown_as_text(open_page, sandbox, path):
    beacon(sandbox, "/e", _k="k", _p=HOSTILE, _n=HOSTILE, **{HOSTILE: HOSTILE})
    beacon(sandbox, "/a", _k="k", _p=HOSTILE, _n=HOSTILE + "2")
    page = open_page(path.format(id=urlencode({"id": HOSTILE})))
    expect(page.locator(".call")).to_have_count(2)
    assert page.locator(".call dd").text_content() == HOSTILE
    assert page.locator(".call img, .call script, .call b").count() == 0
    expect(page).not_to_have_title("owned")


@pytest.mark.slow
def test_ten_thousand_calls_as_fast_as_the_library_can(open_page, sandbox):
    """None is missing, and the page stays small and answers."""
    page = open_page()
    expect(page.locator("#state")).to_have_text("connected")
    with km.Tracker(api_key="k", endpoint=sandbox.endpoint, cpu_share=64, drain_timeout=60) as tracker:
        for number in range(10_000):
            tracker.event(f"person {number % 100}", f"Step {'abcdefgh'[number % 8]}", number=number)
        assert tracker.flush(90)
        assert tracker.stats().delivered == 10_000
    expect(page.locator("#held")).to_contain_text("10,000 of at most 10,000", timeout=30_000)
    numbers = {call.properties["number"] for call in sandbox.calls}
    assert len(numbers) == 10_000
    expect(cards(page)).to_have_count(100)
    page.get_by_role("searchbox").fill("person 42")
    expect(cards(page)).to_have_count(100)
    expect(page.locator(".call .person").first).to_have_text("person 42")
    expect(page.locator("#more")).to_be_hidden()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Older calls").click()
    expect(cards(page)).to_have_count(200)


def test_no_more_calls_are_shown_or_counted_than_are_held(open_page, sandbox, monkeypatch):
    monkeypatch.setattr(sandbox.store, "capacity", 200)
    page = open_page()
    with km.Tracker(api_key="k", endpoint=sandbox.endpoint) as tracker:
        for number in range(207):
            tracker.event("bob", "Signed Up", number=number)
        assert tracker.flush()
    expect(page.locator("#held")).to_contain_text("200 of at most 200")
    expect(page.locator("#most-event b")).to_have_text("200")
    for count in (200, 200):
        page.locator("#more").click() if page.locator("#more").is_visible() else None
        expect(cards(page)).to_have_count(count)


def test_a_page_that_nobody_looks_at_holds_no_connection_and_misses_nothing(open_page, sandbox):
    """A browser has six connections to one server, for all its tabs."""
    page = open_page()
    beacon(sandbox, "/e", _k="k", _p="bob", _n="one")
    expect(cards(page)).to_have_count(1)
    _show(page, is_hidden=True)
    eventually(lambda: not sandbox.store._watchers)
    for name in ("two", "three"):
        beacon(sandbox, "/e", _k="k", _p="bob", _n=name)
    _show(page, is_hidden=False)
    expect(cards(page).locator(".name")).to_have_text(["three", "two", "one"])


def _show(page: playwright.Page, *, is_hidden: bool) -> None:
    page.evaluate(
        """(isHidden) => {
            Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def test_a_sandbox_that_was_started_anew_is_found_again(browser):
    """Its calls have the same numbers as those of the one before: the page must not mix them up."""
    with Sandbox() as before:
        page = browser.new_page()
        page.goto(before.endpoint)
        for name in ("one", "two"):
            beacon(before, "/e", _k="k", _p="bob", _n=name)
        expect(cards(page)).to_have_count(2)
    port = int(before.endpoint.rpartition(":")[2])
    expect(page.locator("#state")).to_contain_text("does not answer")
    with Sandbox(port=port) as after:
        for name in ("three", "four", "five"):
            beacon(after, "/e", _k="k", _p="ann", _n=name)
        expect(cards(page).locator(".name")).to_have_text(["five", "four", "three"], timeout=20_000)
        page.close()


# A person's page.


def test_the_page_of_a_person_merges_identities_and_goes_by_time(open_page, tracker):
    tracker.event("bob", "Signed Up", plan="free", timestamp=1_262_304_000)
    tracker.event("bob@bob.com", "Paid", plan="pro", timestamp=1_262_304_200)
    tracker.event("phone 1", "Called", timestamp=1_262_304_100)
    tracker.event("ann", "Signed Up")
    assert tracker.flush()
    live = open_page()
    live.locator(".call", has_text="Paid").get_by_role("link", name="the page of bob@bob.com").click()
    expect(live.locator("#person")).to_have_text("bob@bob.com")
    expect(live.locator(".call .name")).to_have_text(["Paid"])
    tracker.alias("bob", "bob@bob.com")
    tracker.alias("phone 1", "bob")
    expect(live.locator(".call.event .name")).to_have_text(["Signed Up", "Called", "Paid"])  # without a reload
    expect(live.locator("#identities li")).to_have_text(["bob", "bob@bob.com", "phone 1"])
    expect(live.locator("#properties dd")).to_have_text(["pro"])


def test_of_many_calls_of_a_person_the_latest_are_drawn_and_stay(open_page, tracker):
    """A call of somebody else changes nothing; one of this person is added, and nothing is drawn anew."""
    for number in range(250):
        tracker.event("bob", f"Step {'ab'[number % 2]}", timestamp=1_262_304_000 + number)
    assert tracker.flush()
    page = open_page("/person?id=bob")
    expect(page.locator("#count")).to_have_text("250")
    expect(page.locator(".call")).to_have_count(100)
    page.get_by_role("button", name="Earlier calls").click()
    expect(page.locator(".call")).to_have_count(200)
    page.locator(".call").last.evaluate("it => { it.focus(); document.wasHere = it; }")
    asked: list[str] = []
    page.on("request", lambda it: asked.append(it.url))
    tracker.event("ann", "Signed Up")
    assert tracker.flush()
    tracker.event("bob", "Paid")
    expect(page.locator("#count")).to_have_text("251")
    expect(page.locator(".call .name").last).to_have_text("Paid")
    assert page.evaluate("document.activeElement === document.wasHere")
    assert len([url for url in asked if "/api/person" in url]) == 1


# Copies of a call.


def _calls(made: list[km.Call]) -> list[tuple[object, ...]]:
    return [(it.kind, it.person, it.name, it.identity, it.properties) for it in made]


NASTY = ["q\"uo'te", "back\\slash\n", "Zoë \U0001f600", "{brace} %s %(x)s", "a&b=c+d/e?f#g", "\u2028", "~*'()!", " "]


@pytest.mark.parametrize("text", NASTY)
def test_every_form_of_a_call_says_the_same_call(open_page, sandbox, text):
    """What is copied is pasted: the URL is requested, the lines are run, the assertion is checked."""
    properties = {"plan": text, text + "x": "1", "class": "2"}
    beacon(sandbox, "/e", _k="k", _p=text, _n=text, _t="1262304000", _d="1", **properties)
    beacon(sandbox, "/s", _k="k", _p=text, plan=text)
    beacon(sandbox, "/a", _k="k", _p=text, _n=text + "2")
    [*originals] = sandbox.calls
    page = open_page()
    forms = page.evaluate(
        """async (calls) => {
            const { asURL, asLogLine, asStructlogLine, asAssertion } = await import("/static/forms.js");
            return calls.map((it) => [asURL(it, ""), asLogLine(it), asStructlogLine(it), asAssertion(it)]);
        }""",
        [call.as_dict() for call in originals],
    )
    for original, (url, line, structlog_line, assertion) in zip(originals, forms, strict=True):
        with urlopen(sandbox.endpoint + url) as answer:
            assert answer.status == 200
        told = sandbox.calls[-1]
        made = km.Call(told.kind, told.person, told.name, told.identity, told.timestamp or 0, told.properties)
        same = ("kind", "person", "name", "identity", "timestamp", "properties")
        assert all(getattr(told, field) == getattr(original, field) for field in same)
        exec(assertion, {"km_calls": [made]})
        with pytest.raises(AssertionError):
            exec(assertion, {"km_calls": []})
        for statement in (line, structlog_line):
            say = SimpleNamespace(info=lambda message, extra=None, **fields: (message, extra or fields))
            message, fields = eval(statement, {"km": km, "logger": say, "log": say})
            assert fields["km"]["person"] == original.person
            assert fields["km"].get("properties", {}) == original.properties
            assert original.kind != "event" or message == original.name
            assert fields["km"].get("timestamp") == (original.timestamp if original.kind != "alias" else None)


def test_a_copy_is_in_the_clipboard(open_page, tracker):
    tracker.event("bob", "Signed Up", plan="pro", timestamp=1_262_304_000)
    assert tracker.flush()
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    cards(page).first.hover()
    for _ in range(2):  # pressed again before the tick is gone
        page.get_by_role("button", name="copy as log line").click()
    expect(cards(page).locator("button.copied")).to_have_count(1)
    expect(cards(page).locator("button.copied")).to_have_count(0)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == 'logger.info("Signed Up", extra=km.event("bob", plan="pro", timestamp=1262304000))'


# The URL builder.


def test_the_builder_makes_the_examples_of_the_specification(open_page):
    """Byte for byte, on the vendor's present host."""
    page = open_page("/builder")
    origin = "https://trk.kissmetrics.io"
    expect(page.locator("#url")).to_have_text(
        f"{origin}/e?_k=api-key&_p=bob&_n=Signed+Up&gender=male&_t=1262304000&_d=1"
    )
    page.get_by_label("set properties").check()
    expect(page.locator("#url")).to_have_text(f"{origin}/s?_k=api-key&_p=bob&gender=male&_t=1262304000&_d=1")
    page.get_by_label("alias two identities").check()
    page.get_by_label("Identity", exact=True).fill("User 12345")
    expect(page.locator("#url")).to_have_text(f"{origin}/a?_k=api-key&_p=User+12345&_n=bob%40bob.com")
    expect(page.locator("#sound")).to_be_visible()


def test_the_builder_checks_as_one_types(open_page):
    page = open_page("/builder")
    expect(page.locator("#sound")).to_be_visible()
    page.get_by_label("Time").fill("1262304000000")
    expect(page.locator("[data-kind=bad_timestamp]")).to_contain_text("milliseconds")
    page.get_by_label("Time").fill("soon")
    expect(page.locator("[data-kind=bad_timestamp]")).to_contain_text("whole number")
    page.get_by_role("button", name="Now").click()
    page.get_by_label("API key").fill("")
    expect(page.locator("#problems li")).to_have_count(1)
    expect(page.locator("[data-kind=bad_key]")).to_be_visible()
    page.get_by_label("API key").fill("x")
    page.get_by_role("button", name="Add a property").click()
    page.get_by_label("name of property 2").fill("_K")
    page.get_by_label("value of property 2").fill("{}")
    expect(page.locator("#problems")).to_contain_text("almost like _k")
    page.get_by_role("button", name="take property 2 away").click()
    expect(page.locator("#sound")).to_be_visible()


def test_the_builder_knows_what_was_sent_before(open_page, sandbox):
    """Its checks are those that the call would meet: the sandbox has seen another spelling."""
    beacon(sandbox, "/e", _k="k", _p="bob", _n="Signed Up")
    page = open_page("/builder")
    expect(page.locator("#sound")).to_be_visible()
    page.get_by_label("Event name").fill("signed up")
    expect(page.locator("[data-kind=case_variant]")).to_be_visible()
    assert len(sandbox.calls) == 1


def test_the_builder_says_when_nobody_checks(browser):
    with Sandbox() as sandbox:
        page = browser.new_page()
        page.goto(sandbox.endpoint + "/builder")
        expect(page.locator("#sound")).to_be_visible()
    page.get_by_label("Event name").fill("")
    expect(page.locator("#problems")).to_contain_text("the sandbox does not answer")
    expect(page.locator("#sound")).to_be_hidden()
    page.get_by_role("button", name="Send to this sandbox").click()
    expect(page.locator("#sent")).to_contain_text("does not answer")
    page.close()


def test_the_builder_sends_to_the_sandbox_and_keeps_the_key(open_page, sandbox):
    page = open_page("/builder")
    asked: list[str] = []
    page.on("request", lambda it: asked.append(it.url))
    page.get_by_label("API key").fill("very-secret")
    page.get_by_label("Event name").fill('Bought: tea, "green"')
    page.get_by_role("button", name="Send to this sandbox").click()
    expect(page.locator("#sent")).to_contain_text("Sent")
    [call] = sandbox.calls
    assert (call.person, call.name, call.properties) == ("bob", 'Bought: tea, "green"', {"gender": "male"})
    assert [url for url in asked if "very-secret" in url and "/api/" in url] == []
    assert page.locator("#line").text_content() == (
        'logger.info("Bought: tea, \\"green\\"", extra=km.event("bob", gender="male", timestamp=1262304000))'
    )
    page.get_by_role("link", name="see it arrive").click()
    expect(cards(page)).to_have_count(1)
