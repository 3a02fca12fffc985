"""Flower, as `celery -A gsd_tasks.celery_app flower` and `up` start it: behind a password, and of sessions alone.

    gate.py         who gets in, and what they may do
    application.py  Flower's own application, with that gate before every route
    telling.py      a transition of a session as Celery's events would tell it
    state.py        what the pages show: sessions by what Postgres says, workers by their heartbeats
    inspector.py    of what workers answer, that which may be shown

Flower keeps no file: what it shows of sessions is read from Postgres, also after a restart.
"""
