"""The runs: training and scoring."""
