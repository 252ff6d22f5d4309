"""What leaves the laboratory: a trained back-end made fast with the same outputs, or written for other runtimes."""
