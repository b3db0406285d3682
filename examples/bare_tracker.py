"""No logger at all: a tracker, for a script or a batch job.

Start `km-logging sandbox` in another terminal, then run this with one command:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python examples/bare_tracker.py
"""

from datetime import datetime, timezone

import km_logging as km


def main() -> None:
    """Tell three calls, and see what became of them."""
    with km.Tracker() as tracker:
        tracker.event("bob", "Subscribed", timestamp=datetime(2026, 1, 1, tzinfo=timezone.utc), plan="pro")
        tracker.set("bob", seats=5)
        tracker.alias("bob", "bob@bob.com")
        everything_arrived = tracker.flush()
        stats = tracker.stats()
    print(f"{stats.delivered} of {stats.accepted} calls delivered", "" if everything_arrived else stats.last_error)


if __name__ == "__main__":
    main()
