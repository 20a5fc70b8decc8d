"""The harness of the end-to-end tests: real processes, real stores, raw sockets."""
