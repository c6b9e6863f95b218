"""The only places that touch processes, and later containers, clusters and namespaces."""
