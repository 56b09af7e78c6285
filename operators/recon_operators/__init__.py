"""The built-in forward operators; this module only registers them and imports nothing heavy."""
