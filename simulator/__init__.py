"""Many devices in one process, each a real agent over a real connection, repeatable by seed."""
