"""What concerns tracking stands first; the rest is what a small Django project needs anyway."""

import os
from pathlib import Path

# The key and the endpoint come from KM_API_KEY and KM_ENDPOINT.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "console": {"class": "logging.StreamHandler"},
        "kissmetrics": {"class": "km_logging.KissmetricsHandler"},
    },
    "root": {"level": "INFO", "handlers": ["console", "kissmetrics"]},
}

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "km_logging.contrib.django.KissmetricsMiddleware",
]

# Who a request is of: without this setting `request.user.pk`, here the user's name.
KM_PERSON = "shop.people.person_of"

ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent.parent / "shop.db"}}
DEBUG = False
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
ROOT_URLCONF = "shop.urls"
SECRET_KEY = os.environ.get("SECRET_KEY", "for this machine only, where nobody else reaches it")
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
USE_TZ = True
