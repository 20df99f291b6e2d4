"""What a browser sees at `/`; ABOUT is replaced by which process answered."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>balancer demo</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem }
  code, pre, output { font: 14px/1.5 ui-monospace, monospace }
  td { padding: .1rem 1.5rem .1rem 0; vertical-align: top }
  pre { background: #8882; padding: .5rem; min-height: 1.5rem; white-space: pre-wrap }
</style>
<h1>balancer demo</h1>
<p><code>ABOUT</code></p>
<p>Reload this page: another backend answers. Or click, and watch <a href="http://127.0.0.1:9901/">the status page</a>.</p>
<table>
  <tr><td><a href="/headers">/headers</a><td>what arrived, with what the balancer added
  <tr><td><a href="/slow?seconds=2">/slow?seconds=2</a><td>an answer that takes its time
  <tr><td><a href="/fail?status=500&amp;rate=0.3">/fail?status=500&amp;rate=0.3</a><td>three of ten fail
  <tr><td><a href="/stream?count=10">/stream?count=10</a><td>a chunked line every 200 ms
  <tr><td><a href="/events">/events</a><td>server-sent events
  <tr><td><a href="/bytes?n=1000000">/bytes?n=1000000</a><td>so many bytes
  <tr><td><code>/echo</code><td>any method, the body comes back
  <tr><td><a href="/leak?mb=50">/leak?mb=50</a><td>takes memory and keeps it
  <tr><td><a href="/hang">/hang</a><td>is never answered
  <tr><td><a href="/freeze">/freeze</a><td>the process stops working: its probe notices
  <tr><td><form method="post" action="/crash"><button>/crash</button></form><td>the process dies and is replaced; a POST,
      so that nothing tries it again
</table>
<h2>WebSocket</h2>
<form id="say"><input id="text" value="hello" autocomplete="off"> <button>send</button></form>
<pre id="log"></pre>
<script>
  const log = line => document.getElementById("log").textContent += line + "\\n";
  const socket = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + location.host + "/ws");
  socket.onopen = () => log("open");
  socket.onmessage = event => log("echo: " + event.data);
  socket.onclose = event => log("closed " + event.code);
  document.getElementById("say").onsubmit = event => {
    event.preventDefault();
    socket.send(document.getElementById("text").value);
  };
</script>
</html>
"""
