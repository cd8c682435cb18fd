"""Peers that need a server or much software: each script runs in an environment of its own (`.bench/NAME`)."""
