"""Whose traces? Files of other tools as spans frames, and spans frames as files of theirs."""
