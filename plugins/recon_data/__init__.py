"""Readers and sample data; this module only registers them and imports nothing heavy."""
