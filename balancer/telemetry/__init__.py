"""What can be seen of the balancer: the shared table of numbers, their exposition, logs, the access log and events."""
