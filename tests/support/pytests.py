"""Runs of pytest inside a test, with our plugin as its users have it."""

from __future__ import annotations

from importlib.metadata import entry_points

__all__ = ["PLUGIN"]

#: What has pytest load the plugin. Where km_logging is installed that is nothing: it is found.
PLUGIN = [] if entry_points(group="pytest11", name="km_logging") else ["-p", "km_logging.pytest_plugin"]
