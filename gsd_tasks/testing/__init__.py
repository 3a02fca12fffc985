"""Tools for testing against the real claude CLI without the real API."""
