"""Training on several processes: torch's own distribution around the one training loop."""
