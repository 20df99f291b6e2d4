"""Sockets and nothing above them."""
