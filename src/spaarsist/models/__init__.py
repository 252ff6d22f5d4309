"""How a waveform becomes a score."""
