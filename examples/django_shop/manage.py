"""Django: `LOGGING` in the settings, and a middleware that says who acts.

Start `km-logging sandbox` in another terminal, then run this in this folder (with `pip install django gunicorn`):

    export KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123
    python manage.py migrate
    python manage.py runserver

or, for the last line, `gunicorn --workers 2 --preload shop.wsgi`. Then be somebody, and do something:

    curl --cookie-jar cookies --request POST http://127.0.0.1:8000/people/bob
    curl --cookie cookies --request POST http://127.0.0.1:8000/orders/42
"""

import os

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    execute_from_command_line()
