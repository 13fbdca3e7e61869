"""The shop: a small web shop to break on purpose."""
