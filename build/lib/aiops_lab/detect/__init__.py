"""What is unusual? Windows, baselines, detectors, incidents."""
