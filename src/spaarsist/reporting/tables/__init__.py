"""Tables, made from files alone. Each comes as TSV for machines, and as Markdown, LaTeX and HTML for readers."""
