"""What is run beside the code: it is no part of the package."""
