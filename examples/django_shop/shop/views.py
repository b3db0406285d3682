"""What one can do in the shop. The log calls name nobody: the middleware knows who it is."""

import logging

from django.contrib.auth import get_user_model, login
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST

import km_logging as km

logger = logging.getLogger(__name__)


@require_POST
def sign_up(request: HttpRequest, name: str) -> HttpResponse:
    """Be somebody, from here on: the event is that person's already."""
    user, is_new = get_user_model().objects.get_or_create(username=name)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    logger.info("Signed Up" if is_new else "Signed In", extra=km.event())
    return HttpResponse(f"Welcome, {name}.\n")


@require_POST
def order(_request: HttpRequest, item: int) -> HttpResponse:
    """Order something."""
    logger.info("Ordered", extra=km.event(item=item))
    return HttpResponse(f"Item {item} is on its way.\n")


async def look(_request: HttpRequest, item: int) -> HttpResponse:
    """Look at something: an asynchronous view."""
    logger.info("Looked", extra=km.event(item=item))
    return HttpResponse(f"This is item {item}.\n")
