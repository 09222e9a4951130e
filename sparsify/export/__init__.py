"""Writing programs: each format checks what it wrote before the file appears."""
