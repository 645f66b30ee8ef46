// A client of HTTP/2 that behaves: keeps 4 connections with 8 requests each under way, and after a GOAWAY sends no more on that connection. Prints {}
// once all are under way and, when every connection is over, a line of what became of the requests.

import http2 from "node:http2";

const [port, path] = process.argv.slice(2);
const told = { answered: 0, refused: 0, lost: [], goaways: 0 };
let over = 0;
const connections = 4;
for (let n = 0; n < connections; n++) {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  let leaving = false;
  let open = 0;
  const ask = () => {
    if (leaving || session.closed || session.destroyed) return;
    open++;
    let status = 0;
    let size = 0;
    const stream = session.request({ ":path": path });
    stream.on("response", (headers) => {
      status = headers[":status"];
    });
    stream.on("data", (bytes) => {
      size += bytes.length;
    });
    stream.on("error", () => {});
    stream.on("close", () => {
      open--;
      if (status === 200 && size > 0 && stream.rstCode === 0) told.answered++;
      // RFC 9113 8.7: not looked at, safe to send again.
      else if (stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM) told.refused++;
      else told.lost.push(`${status} ${size} ${stream.rstCode}`);
      ask();
      if (leaving && open === 0) session.close();
    });
  };
  session.on("goaway", () => {
    leaving = true;
    told.goaways++;
  });
  session.on("error", (error) => told.lost.push(String(error)));
  session.on("close", () => {
    if (++over < connections) return;
    console.log(JSON.stringify(told));
    process.exit(0);
  });
  session.on("connect", () => {
    for (let k = 0; k < 8; k++) ask();
    if (n === connections - 1) console.log("{}");
  });
}
