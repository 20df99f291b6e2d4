"""What tests of several parts share: scripted backends, a running balancer, load, system programs."""
