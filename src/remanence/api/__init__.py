"""The HTTP faces: what every request passes (`guard`), what goes wrong (`failures`), the pages, the wiring (`app`)."""
