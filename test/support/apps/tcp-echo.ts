// A service for tests that speaks no HTTP: greets first, then gives every byte back.

Bun.listen({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  socket: {
    open: (socket) => void socket.write("hello\n"),
    data: (socket, bytes) => void socket.write(bytes),
  },
});
