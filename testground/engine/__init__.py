"""The queue, its workers, the straight-line procedures of a task, and the store."""
