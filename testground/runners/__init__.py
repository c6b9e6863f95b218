"""Runners: artifacts become instances, instances become a verdict."""
