"""What a replay of a log takes, beside jq that reads the same file, and picks the lines that a replay looks at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from measuring import Bench, Line

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from support.logfile import write

LINES = 1_000_000

#: Runs a command and says what it took; a child of this process would begin with the memory of this one.
MEASURE = """
import json, resource, subprocess, sys, time
began = time.monotonic()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, time.monotonic() - began, used.ru_maxrss / 1024]))
"""


def replaying(bench: Bench) -> list[Line]:
    lines = bench.some(LINES)
    log, short = Path(bench.folder, "app.log"), Path(bench.folder, "short.log")
    write(log, lines, seed=1)
    write(short, lines // 10, seed=1)
    replay = [sys.executable, "-m", "km_logging", "replay", "--quiet"]
    sending = [*replay, "--transport", "curl" if find_spec("pycurl") else "requests"]
    commands = {"replay": [*sending, log], "a tenth of it": [*sending, short], "dry run": [*replay, "--dry-run", log]}
    if shutil.which("jq"):
        commands["jq"] = ["jq", "-Rc", 'fromjson? | select(type == "object" and .km)', log]
    rounds = {name: [_took(bench, command) for _ in range(bench.rounds)] for name, command in commands.items()}
    cpu, wall, megabytes = (
        {name: median(taken[part] for taken in took) for name, took in rounds.items()} for part in range(3)
    )
    told = {f"{name}, lines a second": round(lines / wall[name]) for name in rounds if name != "a tenth of it"}
    held = {f"{name}, MB": round(megabytes[name], 1) for name in rounds}
    jq = cpu.get("jq")
    return [
        Line(f"dry run of {lines:,} lines, CPU", "jq", jq and cpu["dry run"] / jq, 3.0, medians=told),
        Line(f"replay of {lines:,} lines, 1 in 5 a call, CPU", "jq", jq and cpu["replay"] / jq, 5.0),
        Line(
            "peak memory of it",
            "a tenth of the lines",
            megabytes["replay"] / megabytes["a tenth of it"],
            1.1,
            medians=held,
        ),
    ]


def _took(bench: Bench, command: list[object]) -> list[float]:
    """CPU time and time of the clock, in seconds, and peak memory, in MB."""
    settings = bench.settings()
    leading = {"KM_API_KEY": str(settings["api_key"]), "KM_ENDPOINT": str(settings["endpoint"])}
    measured = [sys.executable, "-c", MEASURE, *map(str, command)]
    return json.loads(subprocess.check_output(measured, env={**os.environ, **leading}))
