"""Commands: `sparsify bench`, `diff` and so on; one file each, with its options, and what it prints."""
