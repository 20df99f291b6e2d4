"""Tests of `balancer.settings`; `wrong/` holds faulty files, each beside everything that is said about it."""
