"""The API: what a client can do, over HTTP."""
