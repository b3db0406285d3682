"""Runs of pytest inside a test, with our plugin as its users have it."""

from __future__ import annotations

from importlib.metadata import entry_points

__all__ = ["PLUGIN"]

#: What has pytest load the plugin: where km_logging is installed it is found. Without Hypothesis' plugin, whose import
#: takes longer than all the rest of a short run.
PLUGIN = [
    "-p",
    "no:hypothesispytest",
    *([] if entry_points(group="pytest11", name="km_logging") else ["-p", "km_logging.pytest_plugin"]),
]
