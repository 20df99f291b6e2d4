"""Servers that each handle one request at a time, as a single-threaded app does: `python -m tests.benchmarks.single PORT…`.

`/5` is answered after 5 ms of the server's time, `/250` after 250; whoever comes meanwhile waits, first come first served.
"""

import sys

import trio

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"


async def serve(port: int) -> None:
    """One server."""
    one_at_a_time = trio.Lock()

    async def converse(stream: trio.SocketStream) -> None:
        buffer = b""
        try:
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = await stream.receive_some()
                    if not data:
                        return
                    buffer += bytes(data)
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                milliseconds = int(head.split(b" ", 2)[1].strip(b"/") or b"0")
                async with one_at_a_time:
                    await trio.sleep(milliseconds / 1000)
                await stream.send_all(ANSWER)
        except trio.BrokenResourceError:
            pass

    await trio.serve_tcp(converse, port, host="127.0.0.1", backlog=1024)


async def main(ports: list[int]) -> None:
    """All of them, in one process: they sleep nearly all the time."""
    async with trio.open_nursery() as nursery:
        for port in ports:
            nursery.start_soon(serve, port)


if __name__ == "__main__":
    trio.run(main, [int(word) for word in sys.argv[1:]])
