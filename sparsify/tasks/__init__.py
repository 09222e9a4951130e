"""The built-in tasks: one file each, the file's name is the task's name, its dataclass fields are its options."""
