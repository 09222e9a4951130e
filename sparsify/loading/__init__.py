"""What `sparsify.load` reads with: each kind of file, and what is checked before any of it is believed."""
