"""Who acts."""

from django.http import HttpRequest


def person_of(request: HttpRequest) -> str | None:
    """The name of whoever has signed in; None if nobody has."""
    return request.user.get_username() or None
