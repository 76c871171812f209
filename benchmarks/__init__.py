"""Measurements of Corral as its users meet it: over HTTP, in a process of its own, beside vLLM's
own server on the same weights and the same machine.

``python -m benchmarks`` compares throughput and latency; ``python -m benchmarks --help`` lists the
other measurements. Each writes its section of RESULTS.md and its raw figures into ``results/``.

What this package must not know: the inside of the server. It starts servers by their commands and
sends requests to them; from ``server`` it takes the registry (which weights), the settings (where
they are kept) and the hardware probe (for the report).
"""
