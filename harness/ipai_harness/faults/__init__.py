"""Faults on purpose, between the parts of a stack."""
