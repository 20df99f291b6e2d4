// A Node.js program that gets its clients in the way that WAY says, without its cluster module:
//
//   port    it listens on $PORT
//   socket  it inherits a listening socket: descriptor 3, with LISTEN_FDS and LISTEN_PID as sd_listen_fds(3) has them
//   pass    connections come down the channel
//
// It says "ready" on the channel, prints what it hears there, replies to who asks, and ends on "shutdown" once its requests are answered; then it
// prints how many those were.
//
//   GET /                   its name; ?ms=N: after so long
//   GET /tell?message=JSON  sends that on the channel
//   GET /shout?size=N       sends a string of N characters
//   GET /leave              process.disconnect()
const http = require('http');

let served = 0;

const server = http.createServer((request, response) => {
  served += 1;
  const url = new URL(request.url, 'http://localhost');
  const about = url.searchParams;
  if (url.pathname === '/tell') process.send(JSON.parse(about.get('message')));
  if (url.pathname === '/shout') process.send('x'.repeat(Number(about.get('size'))));
  if (url.pathname === '/leave') process.disconnect();
  setTimeout(() => response.end(process.env.BALANCER_BACKEND), Number(about.get('ms') || 0));
});
const ready = () => process.send && process.send('ready');

// Not server.close(): connections that were passed do not count for it.
let connections = 0;
let leaving = false;
function leave() {
  leaving = true;
  server.closeIdleConnections();
  if (connections === 0) {
    console.log(`served ${served}`);
    process.exit(0);
  }
}
server.on('connection', socket => {
  connections += 1;
  socket.on('close', () => { connections -= 1; if (leaving) leave(); });
});

process.on('message', (message, socket) => {
  if (socket) {
    server.emit('connection', socket);
  } else if (message === 'shutdown') {
    console.log('shutting down');
    if (server.listening) server.close();
    leave();
  } else if (message.type === 'ask') {
    process.send({type: 'reply', id: message.id, data: {heard: message.data, from: process.pid}});
  } else {
    console.log(`heard ${JSON.stringify(message)}`);
  }
});
process.on('disconnect', () => console.log('disconnected'));

switch (process.env.WAY || 'port') {
  case 'port':
    server.listen(Number(process.env.PORT), process.env.HOST, ready);
    break;
  case 'socket':
    if (Number(process.env.LISTEN_PID) !== process.pid || process.env.LISTEN_FDS !== '1') {
      throw new Error(`LISTEN_PID ${process.env.LISTEN_PID}, LISTEN_FDS ${process.env.LISTEN_FDS}; I am ${process.pid}`);
    }
    server.listen({fd: 3}, ready);
    break;
  case 'pass':
    ready();
}
