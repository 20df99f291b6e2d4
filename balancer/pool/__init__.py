"""What a pool *is*: identity, lifecycle, health, selection, snapshots. Pure: no trio, no sockets, no clock of its own."""
