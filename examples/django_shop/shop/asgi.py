"""For uvicorn, hypercorn and others that speak ASGI."""

import os

from django.core.asgi import get_asgi_application

from km_logging.contrib.asgi import KissmetricsMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

# Django's own middleware says who acts; this one delivers what is pending when the server stops.
application = KissmetricsMiddleware(get_asgi_application())
