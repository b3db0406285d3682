"""An application in a single file, with everything that it needs, which a machine with nothing but Python runs.

Build it, once, and start `km-logging sandbox` in another terminal:

    pip install --target build/shop .
    cp examples/zipapp/__main__.py build/shop
    python -m zipapp build/shop -o build/shop.pyz

Then run it with one command:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python build/shop.pyz
"""

import logging
import logging.config

import km_logging as km

logger = logging.getLogger("shop")


def main() -> None:
    """Configure, then log as any application does."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"kissmetrics": {"class": "km_logging.KissmetricsHandler"}},
            "root": {"level": "INFO", "handlers": ["kissmetrics"]},
        }
    )
    logger.info("Signed Up", extra=km.event("bob", plan="pro"))
    logger.info("Profile saved", extra=km.set("bob", gender="male"))


if __name__ == "__main__":
    main()
