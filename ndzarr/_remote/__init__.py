"""Objects in buckets and on web servers: addresses, requests in flight, retries, and a cache on disk."""
