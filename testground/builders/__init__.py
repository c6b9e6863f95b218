"""Builders: plan sources become an artifact."""
