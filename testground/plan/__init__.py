"""A composition becomes a prepared composition; sources become multipart and back."""
