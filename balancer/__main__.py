"""`python -m balancer` is the `balancer` command."""

from balancer.cli import main

if __name__ == "__main__":
    main()
