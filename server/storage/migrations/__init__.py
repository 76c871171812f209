"""Alembic's environment; `server.storage.migrate` runs it."""
