"""An HTTP app to try a balancer out with: `python -m balancer.demo --port 9000`. Standard library only, no part of the rest.

`exchange` is HTTP/1.1 for one connection, `server` accepts and stops, `routes` is what can be asked, `websocket` the echo
behind `/ws`, `page` what a browser sees at `/`.
"""
