"""How do the spans of a trace hang together? Encoding, trees, the service graph."""
