"""Training: the only loop, with the masks that it keeps, its options, and the folder where it goes on."""
