"""What a child wrote, kept on the host's disk until Postgres has it. Only the shim appends; standard library only.

One folder per attempt. Nothing here is synced to disk: the spool outlives every process, not the host.
"""
