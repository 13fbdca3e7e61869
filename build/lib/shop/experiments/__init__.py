"""Experiments on the virtual shop: leaderboard, calibration, reports."""
