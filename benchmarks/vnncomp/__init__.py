"""Questions of the verification competition, answered by one resident process."""
