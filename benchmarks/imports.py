"""What an application's start pays: CPU time of the imports, each time in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from measuring import Bench, Line, medians

STATEMENTS = {
    "logging.handlers": "import logging.handlers",
    "km_logging": "import km_logging; km_logging.KissmetricsHandler(api_key='benchmark')",
}


def import_time(bench: Bench) -> list[Line]:
    timings = {name: [] for name in STATEMENTS}
    for _ in range(bench.some(31)):
        for name, statement in STATEMENTS.items():
            program = f"import time; before = time.process_time(); {statement}; print(time.process_time() - before)"
            command = [sys.executable, "-c", program]
            # From a folder of its own: what is installed and compiled is imported, not the checkout.
            told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=bench.folder).stdout
            timings[name].append(float(told) * 1e3)
    added = median(timings["km_logging"]) - median(timings["logging.handlers"])
    told = {"unit": "ms more", "medians": medians(timings)}
    return [Line("import and handler", "import logging.handlers", added, 15, **told)]
