"""From a conversation to the exact prompt a model was trained on.

What the package does, in the order of a request:

* ``conversation``  OpenAI message dicts become ``Message`` values; repeated turns are merged
* ``history``       how earlier turns are put to a model that was trained on single turns
* ``catalog``       the prompt formats: stop strings, BOS rule and system handling as data,
                    beside one Jinja template each in ``templates/``
* ``environment``   Jinja with the extras of Hugging Face's chat-template dialect
* ``guard``         marks what the user wrote, so that it stays text whatever it spells
* ``rendering``     runs one template over guarded messages
* ``tokenizer``     a model directory's tokenizer, split into control tokens and plain text
* ``answers``       what the model writes behind a prompt, for training
* ``formatter``     puts the above together: messages in, ``Prompt`` (text, ids, stops) out

**Control tokens.** A token such as ``</s>`` or ``<|im_end|>`` gets its id only where the template
wrote it. The same characters typed by a user, a tool or an earlier answer are encoded like any
other text, in every format including a model's own template. Markers that are no tokens of the
model's vocabulary (``[INST]``, ``### Response:``) are plain text to the model wherever they come
from; nothing can tell the user's from the template's, and nothing here pretends to.

**What it must not know.** No HTTP, no FastAPI, no engine, no registry, no network: pure functions
and data over files that are already on disk. It imports ``server.errors``, jinja2 and tokenizers;
transformers only for a model directory that has no ``tokenizer.json``. Training renders its data
with the same formatter.
"""
