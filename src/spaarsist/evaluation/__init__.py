"""What the runs are worth: metrics, intervals, tests, calibration; never with torch."""
