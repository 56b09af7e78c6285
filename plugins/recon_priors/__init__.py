"""The built-in classical priors; this module only registers them and imports nothing heavy."""
