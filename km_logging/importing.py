"""Imports that wait until they are needed, because they take their time, or because the package may be missing."""

from __future__ import annotations

import threading

__all__ = ["importing"]

#: Held while such a module is imported. A fork waits for it: a child forked in the middle of an import, whose thread it
#: does not have, could never import that module itself.
importing = threading.Lock()
