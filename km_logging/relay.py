"""A process that only delivers: from an outbox that applications fill, so that they need not."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from km_logging.deadline import Deadline
from km_logging.delivery import Delivery
from km_logging.errors import OutboxError, SettingsError
from km_logging.ledger import Ledger, Stats
from km_logging.outbox import make_lasting
from km_logging.outbox.opening import opened
from km_logging.problems import Reporter, insecure
from km_logging.senders import make_sender
from km_logging.settings import Settings

__all__ = ["Relay"]

#: How often `Relay.run_once` and `Relay.drain` look whether they are done, in seconds.
LOOK = 0.05


class Relay:
    """Delivers what waits in an outbox, whoever put it there; never makes one.

    Its books begin empty: a call is accepted when it is read from the outbox, and handed over if it is left there.

    Args:
        settings: `outbox`, `api_key`, `endpoint` and the settings of delivery.

    Raises:
        SettingsError: the outbox ends with the process, or there is no key.
        OutboxError: there is no such outbox, or it is none of ours.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address = settings.outbox
        if not self._address.lasts:
            remedy = "name a sqlite:/// or redis:// outbox"
            raise SettingsError(f"OUTBOX is 'memory:', which no other process can see: {remedy}")
        if settings.api_key is None:
            raise SettingsError("api_key is missing: pass it, or set KM_API_KEY")
        self.waiting()  # so that a mistake is an error, not a problem
        self._ledger = Ledger()
        self._stopping = _Stop()
        self._report = report = Reporter(settings.on_problem).report
        self._outbox = make_lasting(settings, ledger=self._ledger, left=lambda _: None, report=report, is_relay=True)
        self._delivery = Delivery(
            settings,
            outbox=self._outbox,
            make_sender=lambda: make_sender(settings),
            ledger=self._ledger,
            left=lambda _: None,
            report=report,
        )

    @property
    def leads(self) -> bool:
        """Whether this process delivers, as far as it can use the outbox."""
        return self._outbox.leads

    @property
    def has_others(self) -> bool:
        """Whether other processes deliver."""
        return self._outbox.has_others

    def stats(self) -> Stats:
        """What became of the calls that this relay has read."""
        return self._ledger.stats(self._delivery.oldest)

    def waiting(self) -> int:
        """How many calls are in the outbox; raises OutboxError while it cannot be used."""
        with opened(self._address) as store:
            return store.count()

    def start(self) -> None:
        """Begin to deliver; or, where one process delivers for all, to wait for that one to end."""
        if not self._settings.endpoint.is_private:
            self._report(insecure(self._settings.endpoint))
        self._outbox.look()
        self._delivery.start()

    def run_once(self) -> None:
        """Try every call that is there once; end early if nothing can be sent for the time being."""
        with opened(self._address) as store:
            self._outbox.end = store.last()
        self.start()
        while self.leads and not self._delivery.is_through and not self._stopping.is_set():
            self._stopping.wait(LOOK)

    def drain(self) -> None:
        """Deliver until nothing is left, whoever does it."""
        self.start()
        while not self._stopping.is_set() and not (self._delivery.is_through and self._is_empty()):
            self._stopping.wait(LOOK)

    def _is_empty(self) -> bool:
        with suppress(OutboxError):  # which the outbox has said, and goes on trying
            return self.waiting() == 0
        return False

    def run(self) -> None:
        """Deliver until `stop`."""
        self.start()
        self._stopping.wait()

    def stop(self) -> None:
        """End `run`, `drain` or `run_once`; from a signal handler, too."""
        self._stopping.set()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def close(self) -> Stats:
        """Wait for what is under way, within `drain_timeout`; leave the rest to others. Returns the final books."""
        self._delivery.finish(Deadline(self._settings.drain_timeout))
        self._delivery.keep_rest()
        self._delivery.close()
        return self._ledger.stats(time.time())


class _Stop:
    """An event for one waiting thread, that its own signal handler may set: `threading.Event` is not re-entrant."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        with suppress(RuntimeError):  # it was set already
            self._gate.release()

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float = -1) -> None:
        if not self._is_set:
            self._gate.acquire(timeout=seconds)
