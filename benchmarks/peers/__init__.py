"""Others who do what this project does, or of whom it could be built: what runs of them, in `.venv-bench`.

Nothing of this project is installed there. Each peer's worker is started by its own command line; a producer of its own
takes one request a line and answers each with one line, both JSON.
"""
