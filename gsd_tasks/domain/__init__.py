"""What the project speaks of, without IO and without a clock. Standard library only."""
