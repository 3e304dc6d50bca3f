"""`bay serve`: the OpenAI-compatible API. Any client that lets one change its base URL gets the longer window.

The event loop only reads requests and writes replies. Everything that counts, searches or generates runs in threads: each accepted
request has one (`work`), and one more (`engine`) runs the local model, batch by batch.
"""
