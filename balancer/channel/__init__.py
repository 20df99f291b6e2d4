"""Between the supervisor and everything it starts: JSON lines over a Unix socket pair."""
