"""One request's life: resolve, render, fit, lease, generate, assemble.

`herd` brings registry entries, formatters and engines together; `window` fits a conversation to its
context; `service` runs a request; `assembler` finishes what engines leave to us. This package must
not know HTTP, FastAPI or vLLM.
"""
