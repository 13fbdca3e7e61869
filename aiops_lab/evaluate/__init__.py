"""How good are the answers? Incidents against injected faults, calibration, sweeps."""
