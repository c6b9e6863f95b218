"""The sidecar: it shapes the data networks of a run's instances. Linux only."""
