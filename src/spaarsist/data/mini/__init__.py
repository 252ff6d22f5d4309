"""The embedded corpora: small ones of real recordings and real spoofs, and made-up signals in the same layouts."""
