"""The built chat page as files: what there is, in which encodings, under which tags.

Knows nothing of HTTP's messages and of what the page does. The files are made of ``clients/web`` by
``scripts/build_web.py`` and lie in ``static``; without them the server has no page.
"""

from __future__ import annotations

from server.web.site import STATIC, Site, Variant, is_built

__all__ = ["STATIC", "Site", "Variant", "is_built"]
