"""Which bytes are needed, and where do they land?  Pure: nothing here reads, nothing here decodes."""
