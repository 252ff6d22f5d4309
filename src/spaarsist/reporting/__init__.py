"""What the reader sees: tables and figures, made from files alone."""
