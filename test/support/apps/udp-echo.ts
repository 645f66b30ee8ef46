// Answers each datagram with its own name and what it got. PORT and INSTANCE come from the environment.

const socket = await Bun.udpSocket({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  socket: {
    data(to, bytes, port, host) {
      to.send(`${process.env.INSTANCE} ${bytes.toString()}`, port, host);
    },
  },
});

process.on("SIGTERM", () => {
  socket.close();
  process.exit(0);
});
