"""What operators ask of a running server: ``/admin``, and vLLM's two endpoints for adapters.

`access` says who may, `options` what a server tells this package of itself; `models`, `memory`,
`registry`, `events` and `adapters` are the routes, `views` what they show of the herd. Nothing is
decided here: engines belong to `generation.operating`, the registry to `generation.keeper`.
"""
