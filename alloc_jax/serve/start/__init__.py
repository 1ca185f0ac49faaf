"""Starting a gateway: its configuration, its parts put together, its processes."""
