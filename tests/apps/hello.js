// A Node.js program that gets its clients in the way that WAY says, without its cluster module:
//
//   port    it listens on $PORT
//   socket  it inherits a listening socket: descriptor 3, with LISTEN_FDS and LISTEN_PID as sd_listen_fds(3) has them
//   pass    connections come down the channel
//
// It says "ready" on the channel, ends on "shutdown" once its requests are answered, echoes other messages to its pool, and answers
// each request with its name.
const http = require('http');

const server = http.createServer((request, response) => {
  const ms = Number(new URL(request.url, 'http://localhost').searchParams.get('ms') || 0);
  setTimeout(() => response.end(process.env.BALANCER_BACKEND), ms);
});
const ready = () => process.send && process.send('ready');

process.on('message', (message, socket) => {
  if (socket) {
    server.emit('connection', socket);
  } else if (message === 'shutdown') {
    server.close(() => process.exit(0));
  } else if (message === 'leave') {
    process.disconnect();
  } else {
    console.log(`heard ${JSON.stringify(message)}`);
    if (message.type === undefined) process.send({type: 'broadcast', data: message});
  }
});

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
