"""Loaded with ``-p`` before nbval: its import compiles no grammar of IRIs, which takes two seconds.

jsonschema does so for schemas that ask for such a format, if the package with the grammar can be
imported. Those of notebooks do not, and each worker would begin with it.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
