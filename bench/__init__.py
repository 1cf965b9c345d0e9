"""Measurements. Each prints a table for people and, last, one JSON object (`make bench`)."""
