"""As whom a proxy runs: it starts as the supervisor's user and gives that up before it serves anybody, as nginx's workers do."""

import os


def become(user: str) -> None:
    """Be this user, with all of its groups, for good; nothing to do for who is already. Raises KeyError for nobody's name, OSError."""
    import pwd

    entry = pwd.getpwnam(user)
    if os.geteuid() == entry.pw_uid:
        return
    os.setgroups(os.getgrouplist(user, entry.pw_gid))
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
