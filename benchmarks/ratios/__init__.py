"""One table of paired ratios, part by part: ``python -m benchmarks.ratios [--large]``.

Each module measures one thing in a process of its own, and yields rows (`Measured`). A peer is
installed into an environment of its own (``make bench`` does it), beside this package, so that
both sides of a ratio run in one process, in turn.
"""
