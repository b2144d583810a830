"""What a person sees of a command: tables, progress and summaries in a terminal."""
