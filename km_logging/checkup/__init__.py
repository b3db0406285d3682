"""What a configuration would do, and what is wrong with it. Nothing here configures or tracks anything.

`settings` shows each setting with its source, the key masked, and finds what is wrong with them. `config` looks through
a dictConfig for what would keep a tagged record from our handler, by the help of `tables`, `filters` and `meetings`,
and `refused` for what dictConfig would raise for; `code` through source files for log calls that logging refuses;
`surroundings` at network and disk, as they are now.
"""

from __future__ import annotations

from km_logging.checkup.code import code_findings
from km_logging.checkup.config import config_findings, handler_settings
from km_logging.checkup.finding import Finding
from km_logging.checkup.settings import Shown, settings_findings, settings_shown, variable_findings
from km_logging.checkup.surroundings import Reached, outbox_findings, reach

__all__ = [
    "Finding",
    "Reached",
    "Shown",
    "code_findings",
    "config_findings",
    "handler_settings",
    "outbox_findings",
    "reach",
    "settings_findings",
    "settings_shown",
    "variable_findings",
]
