"""The registry: what is remembered. PostgreSQL through psycopg 3, plain SQL, one module per noun.

Nothing outside this package writes SQL, and nothing in it knows MQTT. Nothing above it knows
whether the server has TimescaleDB (docs/adr/0004).
"""
