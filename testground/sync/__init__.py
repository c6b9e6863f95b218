"""The sync service: topics and barriers between the instances of a run (contract §3).

`wire` is the codec, `service` the state machine without I/O, `server` its sockets, `client` the instance's side.
"""
