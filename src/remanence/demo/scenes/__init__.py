"""The eight scenes, one module each: `play(theatre)` says what it does, does it, and checks what it claims."""
