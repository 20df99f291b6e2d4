// A program as its author would write it: it knows nothing of the balancer and listens on the port that it likes.
const app = require('express')();

app.get('/', (request, response) => response.json({pid: process.pid, backend: process.env.BALANCER_BACKEND}));
app.listen(Number(process.env.LIKED_PORT || 3000));
