"""The HTTP daemon: thin routes over the engine."""
