"""What the runs are worth: metrics, intervals, complexity."""
