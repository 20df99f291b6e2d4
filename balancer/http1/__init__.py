"""What HTTP/1.1 demands of a proxy: pure functions over bytes, without sockets, clock or trio. The only door to h11."""
