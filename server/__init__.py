"""Corral: one OpenAI-compatible endpoint for a herd of LLaMAs.

The packages below import one another in one direction only (see docs/architecture.md):
``cli, app -> api -> generation -> {registry | prompts | engines} -> errors``.
"""

__version__ = "0.1.0"
