"""What `import km_logging as km` offers: the names, their documentation, and the shapes that others rely on."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import logging
import pickle
import re
import types
import uuid
from pathlib import Path

import pytest

import km_logging as km

#: The names that the contract speaks of.
PROMISED = {
    "Call",
    "KissmetricsHandler",
    "KissmetricsProcessor",
    "Problem",
    "ProblemError",
    "Tracker",
    "alias",
    "event",
    "identify",
    "set",
}

PACKAGE = Path(km.__file__).parent
MODULES = sorted(
    ".".join(["km_logging", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)

#: Distributions of the extras and of hosts, without which some modules cannot be imported.
EXTRAS = {"click", "jinja2", "rich", "rq", "starlette", "uvicorn"}


def test_all_is_complete():
    """Every public name in the package's namespace that is no module of it, and every promised one."""
    public = {
        name
        for name, value in vars(km).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert set(km.__all__) - {"__version__"} == public
    assert public >= PROMISED


def test_all_is_sorted_and_holds_each_name_once():
    assert list(km.__all__) == sorted({*km.__all__})


def test_star_import_gives_what_all_says():
    namespace: dict[str, object] = {}
    exec("from km_logging import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(km.__all__)


def test_the_version_is_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab]\d+|rc\d+|\.dev\d+)?", km.__version__)


def _imported(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] in EXTRAS or isinstance(error, km.MissingExtraError):
            pytest.skip(f"needs an extra: {error}")
        raise


@pytest.mark.parametrize("name", MODULES)
def test_the_doctests_of_a_module_run(name):
    module = _imported(name)
    failures, _tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    assert failures == 0


def test_there_are_doctests_of_every_helper():
    """So that the test above has something to run."""
    finder = doctest.DocTestFinder()
    for thing in (km.event, km.set, km.alias, km.identify):
        assert any(test.examples for test in finder.find(thing, module=False))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_a_docstring_and_its_all_names_what_is_there(name):
    module = _imported(name)
    assert module.__doc__
    assert all(hasattr(module, public) for public in getattr(module, "__all__", []))


@pytest.mark.parametrize("name", sorted(set(km.__all__) - {"__version__"}))
def test_a_public_name_and_its_public_methods_have_docstrings(name):
    thing = getattr(km, name)
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{name}("), "that is what a dataclass writes by itself"
    if inspect.isclass(thing):
        for method, value in inspect.getmembers(thing, inspect.isfunction):
            if not method.startswith("_") and value.__module__.startswith("km_logging"):
                assert value.__doc__, f"{name}.{method}"


@pytest.mark.parametrize(
    ("thing", "signature"),
    [
        (km.event, "(person=None, name=None, /, *, timestamp=None, properties=None, **props)"),
        (km.set, "(person=None, /, *, timestamp=None, properties=None, **props)"),
        (km.alias, "(person, identity, /)"),
        (km.Tracker.event, "(self, person=None, name=None, /, *, timestamp=None, properties=None, **props)"),
        (km.Tracker.set, "(self, person=None, /, *, timestamp=None, properties=None, **props)"),
        (km.Tracker.alias, "(self, person, identity, /)"),
        (km.Tracker.flush, "(self, timeout=None)"),
        (km.Tracker.aflush, "(self, timeout=None)"),
        (km.KissmetricsHandler.flush, "(self, timeout=None)"),
        (km.KissmetricsHandler.aflush, "(self, timeout=None)"),
        (km.KissmetricsProcessor.flush, "(self, timeout=None)"),
        (km.KissmetricsProcessor.aflush, "(self, timeout=None)"),
    ],
    ids=lambda thing: getattr(thing, "__qualname__", ""),
)
def test_a_signature_is_that_of_the_contract(thing, signature):
    found = inspect.signature(thing)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in found.parameters.values()]
    assert str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty)) == signature


def test_the_front_ends_pass_flush_close_and_stats_through():
    with km.Tracker(mode="off") as tracker:
        for front_end in (km.KissmetricsHandler(tracker=tracker), km.KissmetricsProcessor(tracker=tracker)):
            assert front_end.flush(1) is True
            assert front_end.stats() == tracker.stats()
            front_end.close()


def test_the_handler_is_a_logging_handler():
    assert issubclass(km.KissmetricsHandler, logging.Handler)
    handler = km.KissmetricsHandler(logging.ERROR, mode="off")
    assert handler.level == logging.ERROR
    handler.close()


# The shapes.


def test_a_call_has_the_fields_of_the_contract():
    fields = [field.name for field in dataclasses.fields(km.Call)]
    assert fields == ["kind", "person", "name", "identity", "timestamp", "properties"]


def test_a_problem_has_the_fields_of_the_contract():
    assert [field.name for field in dataclasses.fields(km.Problem)] == ["kind", "message", "remedy", "call"]


def test_stats_have_the_fields_of_the_contract():
    assert {field.name for field in dataclasses.fields(km.Stats)} == {
        "accepted",
        "delivered",
        "handed_over",
        "pending",
        "retried",
        "dropped",
        "refused",
        "merged",
        "oldest_pending_s",
        "last_delivered",
        "last_error",
    }


CALL = km.Call("event", "bob", "Signed Up", timestamp=1_700_000_000, properties={"plan": "pro"})
PROBLEM = km.Problem("bad_person", "the person is empty", "name one", CALL)


def _stats() -> km.Stats:
    with km.Tracker(mode="off") as tracker:
        return tracker.stats()


@pytest.mark.parametrize("thing", [CALL, PROBLEM, _stats()], ids=lambda thing: type(thing).__name__)
def test_call_problem_and_stats_are_frozen(thing):
    for field in dataclasses.fields(thing):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, field.name, None)
    with pytest.raises((AttributeError, TypeError)):
        thing.something_else = 1


@pytest.mark.parametrize("thing", [CALL, PROBLEM], ids=lambda thing: type(thing).__name__)
def test_call_and_problem_survive_pickling_and_compare_by_value(thing):
    assert pickle.loads(pickle.dumps(thing)) == thing
    assert dataclasses.replace(thing) == thing
    assert dataclasses.replace(thing, kind="set") != thing


def test_what_is_done_to_a_snapshot_of_the_books_does_nothing_to_the_books():
    with km.Tracker(api_key=uuid.uuid4().hex, endpoint="http://127.0.0.1:9", drain_timeout=0) as tracker:
        assert tracker.event("", "Signed Up") is False
        stats = tracker.stats()
        assert stats.refused == {"bad_person": 1}
        stats.refused.clear()
        stats.dropped["overflow"] = 5
        assert tracker.stats().refused == {"bad_person": 1}
        assert tracker.stats().dropped == {}


# The errors.


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (km.KmLoggingError, {Exception}),
        (km.SettingsError, {km.KmLoggingError, ValueError}),
        (km.ProblemError, {km.KmLoggingError, ValueError}),
        (km.MissingExtraError, {km.KmLoggingError, ImportError}),
    ],
)
def test_the_tree_of_errors(error, bases):
    assert set(error.__bases__) == bases


def test_every_error_of_the_library_is_in_the_tree():
    errors = importlib.import_module("km_logging.errors")
    defined = {value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)}
    public = {km.KmLoggingError, km.SettingsError, km.ProblemError, km.MissingExtraError}
    assert defined == {*public, errors.OutboxError}
    assert all(error.__name__ in errors.__doc__ for error in defined)


def test_a_problem_error_carries_its_problem_also_through_pickling():
    error = pickle.loads(pickle.dumps(km.ProblemError(PROBLEM)))
    assert error.problem == PROBLEM
    assert str(error) == "the person is empty: name one"


def test_a_missing_extra_says_how_to_install_it():
    error = km.MissingExtraError("km-logging check", "cli")
    assert str(error).endswith("pip install 'km_logging[cli]'")
    assert "km-logging check" in str(error)
