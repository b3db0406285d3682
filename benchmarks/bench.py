"""The benchmarks of km_logging: every row of the table of goals, side by side with the peers, in one run.

    python benchmarks/bench.py                     # everything, into results.json, results.svg and README.md
    python benchmarks/bench.py --row accepted      # one row (or more), only printed
    python benchmarks/bench.py --list

It makes an environment of its own, .venv-bench, unless `--here` has it use the one that it is run with. Each row is a
process of its own, pinned to one core, with a server pinned to another one.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import venv
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENVIRONMENT = ROOT / ".venv-bench"
MARK = "<!-- results -->\n"
PATIENCE = 900  # seconds that one row may take

#: Name of a row: where it is.
ROWS = {
    "untagged": "call.untagged_call",
    "accepted": "call.accepted_call",
    "structlog": "call.structlog_call",
    "tail": "call.tail",
    "immediate": "call.immediate_call",
    "delivered": "delivery.delivered_call",
    "under-way": "delivery.under_way",
    "batches": "store.batches",
    "neighbour": "neighbours.neighbour",
    "backlog": "neighbours.backlog",
    "loop": "loop.event_loop",
    "application": "store.application",
    "stream": "beyond.stream",
    "application-redis": "beyond.application",
    "relays": "beyond.relays",
    "memory": "memory.waiting_call",
    "depth": "store.depth",
    "import": "imports.import_time",
    "replay": "logs.replaying",
}


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="the names of the rows; README.md explains them")
    parser.add_argument("--row", action="append", choices=ROWS, metavar="NAME", help="this row only; repeatable")
    parser.add_argument("--keep", action="store_true", help="put the rows of --row into the last results")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of less: to see whether it works")
    parser.add_argument("--here", action="store_true", help="use this Python's packages; peers may be missing")
    parser.add_argument("--child", choices=ROWS, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.list:
        print("\n".join(ROWS))
        return 0
    if wanted.child:
        run_child(wanted.child, quick=wanted.quick)
    if not wanted.here:
        python = make_environment()
        os.execv(python, [python, __file__, "--here", *sys.argv[1:]])
    keep = wanted.keep or not (wanted.row or wanted.quick)
    return run(wanted.row or list(ROWS), quick=wanted.quick, keep=keep)


def make_environment() -> str:
    """The environment with the peers, and with what this checkout is now."""
    python = str(ENVIRONMENT / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    stamp, peers = ENVIRONMENT / ".peers", HERE / "requirements.txt"
    if not stamp.exists() or stamp.stat().st_mtime < peers.stat().st_mtime:
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([*pip, "-r", str(peers)], check=True)
        # It asks for a urllib3 below 2, and works with the one that requests has: all shall stand on the same.
        subprocess.run([*pip, "--no-deps", "py-KISSmetrics"], check=True)
        stamp.touch()
    subprocess.run([*pip, "--upgrade", f"{ROOT}[all]"], check=True)
    subprocess.run([*pip, "--no-deps", "--force-reinstall", str(ROOT)], check=True)  # whatever its version says
    return python


def run(names: list[str], *, quick: bool, keep: bool) -> int:
    """Measure the rows and print the table; keep it in results.json, results.svg and README.md."""
    from measuring import Line
    from report import described, machine, plot, table

    facts = machine()
    rows = {name: run_row(name, quick=quick) for name in names}
    if len(rows) < len(ROWS) and keep:
        last = json.loads((HERE / "results.json").read_text())
        facts, rows = last["machine"], {name: rows.get(name) or last["rows"].get(name, []) for name in ROWS}
    lines = [Line(**line) for row in rows.values() for line in row]
    told = f"{described(facts)}\n\n{table(lines)}\n"
    print(told)
    if keep:
        (HERE / "results.json").write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")
        (HERE / "results.svg").write_text(plot(lines))
        readme = HERE / "README.md"
        readme.write_text(readme.read_text().partition(MARK)[0] + f"{MARK}\n![Results](results.svg)\n\n{told}")
    return int(not all(rows.values()))


def run_row(name: str, *, quick: bool) -> list[dict]:
    """The lines of one row, measured in a process of its own; none if that failed, which is said."""
    print(name, "...", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--child", name, *(["--quick"] if quick else [])]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        told, said = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        told, said = "", f"not done within {PATIENCE} seconds"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # what is left of it: the server of one that failed
    if child.returncode or not told:
        print(f"{name} failed: {said}", file=sys.stderr)
        return []
    return json.loads(told.splitlines()[-1])


def run_child(name: str, *, quick: bool) -> None:
    """Measure one row, print its lines as JSON, and end the process, whatever peers have in the background."""
    for variable in [name for name in os.environ if name.startswith(("KM_", "AWS_", "OTEL_", "SENTRY_"))]:
        del os.environ[variable]
    os.environ["NO_PROXY"] = "127.0.0.1"
    from measuring import Bench
    from server import serving

    module, _, function = ROWS[name].partition(".")
    measure = getattr(importlib.import_module(module), function)
    with tempfile.TemporaryDirectory(prefix="km_logging-bench-") as folder, serving(folder) as port:
        lines = measure(Bench(3 if quick else 5, 0.1 if quick else 1, port, folder))
    print(json.dumps([asdict(line) for line in lines]), flush=True)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
