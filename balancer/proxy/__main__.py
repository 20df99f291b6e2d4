"""`python -m balancer.proxy CHANNEL_FD TABLE_FD TABLE_SHAPE SLOT GRANTS USER NAME=FD …`: started by the supervisor, never by hand.

USER: whom it becomes, "" for nobody else.
"""

from balancer.proxy.process import main

if __name__ == "__main__":
    main()
