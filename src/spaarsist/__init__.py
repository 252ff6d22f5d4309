"""SpAArSIST-repro: sparsified AASIST back-ends for speech anti-spoofing (replication of arXiv 2606.11674)."""

__version__ = "0.2.0"
