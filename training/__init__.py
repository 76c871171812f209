"""From a base model to one's own assistant: what ``corral train`` does.

* ``recipe``      what to train, on what, how: one YAML file; every mistake at once
* ``data``        rows of many shapes become conversations, mixed, checked, split
* ``rendering``   a conversation becomes token ids and labels, by the formatter that serves
* ``model``       the weights, where they learn, and the tokenizer's padding
* ``runner``      TRL's SFTTrainer over all of it, resumable
* ``results``     curves, model card and registry entry of a finished run
* ``merging``     an adapter put into its base's weights, for Corral and other tools
* ``cli``         ``corral train`` and ``python -m training``

It knows ``server.prompts``, ``server.registry``, ``server.settings``, ``server.console`` and
``server.errors``, nothing else of the server, and nothing of the server knows it. torch and what
the extra ``train`` installs are imported by ``model``, ``runner``, ``callbacks``, ``results`` and
``merging`` alone, when they are needed: a recipe and its data are checked without.
"""
