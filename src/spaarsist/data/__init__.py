"""How a corpus becomes waveforms with labels."""
