// A service for tests that takes WebSockets on every path, greets with its name and the path, and gives every message back; other requests get 200.

const instance = process.env.INSTANCE ?? "websocket";

Bun.serve<{ path: string }>({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  fetch(request, server) {
    if (server.upgrade(request, { data: { path: new URL(request.url).pathname } })) return undefined;
    return new Response(`${instance}\n`);
  },
  websocket: {
    open: (socket) => void socket.send(`${instance} ${socket.data.path}`),
    message: (socket, message) => void socket.send(message),
  },
});
