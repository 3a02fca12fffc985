"""What happens to a session, as named steps."""
