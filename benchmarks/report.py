"""The lines as a table and as a plot, and the machine that they were measured on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import datetime, timezone
from html import escape
from importlib import metadata
from pathlib import Path

from measuring import Line

PACKAGES = (
    "requests urllib3 structlog pycurl py-KISSmetrics segment-analytics-python posthog snowplow-tracker sentry-sdk "
    "opentelemetry-sdk python-logstash-async watchtower boto3 loguru"
).split()


def machine() -> dict[str, object]:
    """What the figures depend on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    nginx = shutil.which("nginx") and subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": nginx.stderr.partition(": ")[2].strip() if nginx else "a server of ours",
        "load_before": round(os.getloadavg()[0], 1),
        "versions": versions,
    }


def described(facts: dict) -> str:
    """The machine in a few words."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    where = f"{facts['cpu']}, {facts['cores']} cores, load average {facts['load_before']} before the run"
    return f"{facts['when']}; {where}; {facts['python']}, {facts['server']}; {versions}."


def table(lines: list[Line]) -> str:
    """The table of goals with our column, in Markdown."""
    rows = ["| what | beside what | goal | measured | met | medians |", "| --- | --- | --- | --- | --- | --- |"]
    for line in lines:
        aim = f" (aim {line.aim:g})" if line.aim else ""
        goal = f"{'at least' if line.at_least else 'at most'} {line.goal:,g}{aim}"
        value = "not there yet" if line.value is None else f"{float(f'{line.value:.3g}'):,g} {line.unit}".strip()
        met = "" if line.part is None else "yes" if line.part <= 1 else "**no**"
        medians = ", ".join(f"{name} {value:,g}" for name, value in line.medians.items())
        rows.append(f"| {line.what} | {line.beside} | {goal} | {value} | {met} | {medians} |")
    return "\n".join(rows)


def plot(lines: list[Line]) -> str:
    """How much of its bound each line takes, as SVG."""
    told = [(f"{line.what} / {line.beside}", line.part) for line in lines if line.part]
    left, width, step = 600, 400, 20
    size = f"{left + width + 60} {40 + step * len(told)}"
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="16">part of what the goal allows; the dashed line is the goal</text>',
    ]
    for number, (label, part) in enumerate(told):
        y, long = 26 + step * number, min(part, 2) * width / 2
        colour = "#3a8f5c" if part <= 1 else "#c2503f"
        svg += [
            f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{left}" y="{y}" width="{long:.1f}" height="{step - 5}" fill="{colour}"/>',
            f'<text x="{left + long + 5:.1f}" y="{y + 12}">{part:.2f}</text>',
        ]
    goal = left + width // 2
    svg.append(f'<path d="M{goal} 22V{30 + step * len(told)}" stroke="black" stroke-dasharray="4 3"/>')
    return "\n".join([*svg, "</svg>\n"])
