// A program that calls listen() itself, for `handover = "node-cluster"`; standard library only.
//
//   GET  /            who answers, and what its cluster module knows
//   GET  /slow?ms=N   the same after so long
//   POST /echo        the request's body
//   POST /disconnect  the worker leaves its cluster by itself
//
// LIKED_PORT: where it listens (3000); FURTHER: more ports and paths, separated by commas, on which it listens afterwards.
const cluster = require('cluster');
const http = require('http');

const liked = Number(process.env.LIKED_PORT || 3000);

function answer(request, response) {
  const about = {
    pid: process.pid, backend: process.env.BALANCER_BACKEND, generation: process.env.BALANCER_GENERATION,
    isWorker: cluster.isWorker, id: cluster.isWorker ? cluster.worker.id : 0, address: request.socket.server.address(),
  };
  const url = new URL(request.url, 'http://localhost');
  const send = () => response.end(JSON.stringify(about) + '\n');
  if (request.method === 'POST' && url.pathname === '/disconnect') {
    send();
    cluster.worker.disconnect();
  } else if (request.method === 'POST') {
    request.pipe(response);
  } else {
    setTimeout(send, Number(url.searchParams.get('ms') || 0));
  }
}

function further([place, ...rest]) {
  if (!place) return;
  const server = http.createServer(answer);
  server.on('error', error => { console.log(`${place}: ${error.code}`); further(rest); });
  server.listen(/^\d+$/.test(place) ? Number(place) : place, () => { console.log(`${place}: listens`); further(rest); });
}

http.createServer(answer).listen(liked, () => further((process.env.FURTHER || '').split(',')));
process.on('message', message => console.log(`message ${JSON.stringify(message)}`));
process.on('disconnect', () => console.log('disconnected'));
