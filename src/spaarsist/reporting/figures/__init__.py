"""Figures, made from files alone. Each comes as PNG and PDF, with a TSV of what it shows."""
