"""The standard library's logging, configured from a TOML file.

Start `km-logging sandbox` in another terminal, then run this with one command:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python examples/with_logging.py
"""

import logging.config
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # before Python 3.11
    import tomli as tomllib

import km_logging as km

logger = logging.getLogger(__name__)


def main() -> None:
    """Configure, then log as any application does."""
    logging.config.dictConfig(tomllib.loads(Path(__file__).with_name("logging.toml").read_text("utf-8")))

    # With the helpers: only what is named here is sent.
    logger.info("Signed Up", extra=km.event("bob", plan="pro", seats=5))
    logger.info("Profile saved", extra=km.set("bob", gender="male"))
    logger.info("Accounts linked", extra=km.alias("bob", "bob@bob.com"))

    # Without an import, in code that already passes `extra`: every field is a property.
    logger.info("Order %s placed", 8123, extra={"km": "event", "person": "bob", "total": 12.5})

    # Not tagged, not tracked.
    logger.info("Cache warmed in %d ms", 31)


if __name__ == "__main__":
    main()
