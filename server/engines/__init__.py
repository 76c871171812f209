"""Engines: token ids in, deltas out.

``base`` is the seam (`Engine`, `GenerationRequest`, `Delta`); ``vllm_engine`` is the real one
and ``scripted`` the one for fast tests; ``pool`` decides when an engine lives. ``hardware`` and
``plan`` say what the machine is and which settings use it. ``child``, ``cpu_worker``,
``cpu_llama`` and ``threads`` run inside the engine's own process.

This package must not know HTTP, conversations, prompt formats or the registry file: it is handed an
`EngineSpec` and lists of token ids.
"""
