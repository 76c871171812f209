"""What the commands of ``corral`` do, one module each; ``server.cli`` parses and calls them.

``listen``, ``start_screen`` and ``load_watch`` belong to ``corral serve``, ``inventory`` and
``builds`` (what is on this machine) to several. Nothing here imports vLLM or torch, and only
``corral serve`` imports FastAPI: the other commands answer within a second.
"""
