"""The retraining methods: one file each, the file's name is the method's name, its dataclass fields are its options."""
