"""Evaluation: incidents against injected faults, calibration, sweeps."""
