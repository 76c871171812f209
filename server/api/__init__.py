"""The wire: OpenAI's HTTP API. FastAPI and Starlette live here and in ``app.py``, nowhere else.

Request bodies are pydantic models in ``schemas/``; responses and stream chunks are encoded by
``encode`` straight to bytes; domain errors become OpenAI's envelope in ``error_handlers`` once.
This package must not know vLLM, Jinja or YAML.
"""
