"""Everything that crosses the wire, defined once: composition, manifest, task, requests and the chunk stream.

Models are pydantic; the JSON they write is what the upstream Go client and daemon write and read: every key present,
`null` for an unset map or list, keys matched in any letter case when reading.
"""
