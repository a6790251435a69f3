"""The store on disk: layout, metadata, chunks in shards, writing, reading, opening, verifying."""
