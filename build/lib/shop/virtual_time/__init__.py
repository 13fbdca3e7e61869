"""The shop in virtual time: weeks in seconds, the same numbers on every machine."""
