"""Postgres, and nothing else."""
