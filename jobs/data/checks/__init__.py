"""What is wrong with the clips: all of it, before anything is spent."""
