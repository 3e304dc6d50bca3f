"""The routes, one file a group. Each reads a form, asks the service, and writes a reply; what takes time runs in a thread."""
