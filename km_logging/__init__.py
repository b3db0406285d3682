r"""Product analytics from the logs that an application already writes.

The path of a call, which is also the listing of this package:

     logger.info(.., extra=..)   log.info(.., km=..)         Tracker().event(..)
            | LogRecord                 | event dict                  |
       handler.py                  processor.py                  helpers.py
            \______ tagging.py: is it tagged? take a snapshot ________/
                        | put: bounded, re-entrant, never blocks            (the caller's thread ends here)
                   queueing.py
                        |
                   listener.py      one QueueListener thread
                        |
                    intake.py       telling.py makes the call (calls.py, values.py), before_send may change it,
                        |           wire.py encodes the request; in the caller if the log call waits for its commit
                    outbox/         memory | sqlite | redis                              (seam 1)
                        | entries
                   delivery.py  <-> policy.py   answer -> verdict, backoff, breaker (pure)
                        |       \_  retries.py, pacing.py (load.py), marks.py: its state, under one lock
                        | request
                    senders/        requests | curl | printing                           (seam 2)
                        |
                  https://trk.kissmetrics.io/e /s /a

tracker.py puts a pipeline.py of these together for each distinct settings.py, keeps the books (ledger.py) and says
problems (problems.py); process.py sees to forks and to the end of the process, sigterm.py to the signal, uwsgi.py
to a host that has its own ways with both, waiting.py to the end of a piece of work, guard.py that nothing of ours
is ever tracked; relay.py delivers from an outbox that other processes fill, direct.py sends a call at once,
lines.py writes and reads calls as lines of JSON, replay/ sends those that stand in logs. While a test captures
calls (testing.py, and pytest_plugin.py for its fixtures), each pipeline puts them into the lists of capturing.py
instead. checkup/, commands/, replay/, sandbox/ and contrib/, which is for frameworks, use the library and are used
by nothing in it; compat/ is the interface of another library over a tracker.
"""

from __future__ import annotations

from km_logging.calls import Call, Problem
from km_logging.errors import KmLoggingError, MissingExtraError, ProblemError, SettingsError
from km_logging.handler import KissmetricsHandler
from km_logging.helpers import alias, event, set
from km_logging.identity import identify
from km_logging.ledger import Stats
from km_logging.processor import KissmetricsProcessor
from km_logging.tracker import Tracker
from km_logging.waiting import flushing

__all__ = [
    "Call",
    "KissmetricsHandler",
    "KissmetricsProcessor",
    "KmLoggingError",
    "MissingExtraError",
    "Problem",
    "ProblemError",
    "SettingsError",
    "Stats",
    "Tracker",
    "__version__",
    "alias",
    "event",
    "flushing",
    "identify",
    "set",
]

__version__ = "0.1.0"
