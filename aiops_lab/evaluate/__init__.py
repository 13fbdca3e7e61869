"""Is it right? Incidents against the injected faults, calibration, sweeps."""
