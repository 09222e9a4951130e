"""Writing a smaller program back into the user's own module: its tensors, and the sizes in its attributes."""
