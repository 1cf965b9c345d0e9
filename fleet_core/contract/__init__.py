"""What is said on the wire: topics, messages, rights, errors. Nothing here does I/O."""
