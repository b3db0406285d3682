"""A small application that tells things through both kinds of logging, configured when it is imported, as many are."""

import logging.config

import structlog

import km_logging as km

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"kissmetrics": {"class": "km_logging.KissmetricsHandler"}},
    "root": {"level": "INFO", "handlers": ["kissmetrics"]},
}


def configure() -> None:
    """Set up logging; key, endpoint and mode come from the environment."""
    logging.config.dictConfig(LOGGING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            km.KissmetricsProcessor(),
            structlog.processors.JSONRenderer(),
        ],
    )


configure()
logger = logging.getLogger(__name__)
log = structlog.get_logger()


def sign_up(email: str, plan: str) -> None:
    """Somebody becomes a customer."""
    logger.info("Signed Up", extra=km.event(email, plan=plan))
    logger.info("Plan chosen", extra=km.set(email, plan=plan))


def link(user_id: int, email: str) -> None:
    """A user turns out to be a customer."""
    logger.info("Accounts linked", extra=km.alias(user_id, email))


def order(items: list[str], total: float) -> None:
    """Whoever is identified orders something."""
    log.info("Ordered", km="event", items=items, total=total)
