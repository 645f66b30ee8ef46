import { expect, test } from "bun:test";
import fc from "fast-check";
import { text } from "../http/bytes.ts";
import { field, form, Head, parseAnswer, parseRequest } from "./head.ts";
import { defaultLimits, refusal } from "./limits.ts";

const bytes = (value: string) => Buffer.from(value, "latin1");
const parse = (value: string, head = new Head()) => parseRequest(bytes(value), 0, value.length, head);

function fieldsOf(raw: Uint8Array, head: Head): [string, string][] {
  const out: [string, string][] = [];
  for (let i = 0; i < head.count; i++) {
    out.push([
      text(raw, head.nameFrom[i] as number, head.nameTo[i] as number),
      text(raw, head.valueFrom[i] as number, head.valueTo[i] as number),
    ]);
  }
  return out;
}

const good =
  "POST /a/b?c=d HTTP/1.1\r\nHost: cart.shop:80\r\nContent-Length: 12\r\nX-Empty:\r\nX-Space:  \t a b \t\r\nx-request-id: 7\r\n\r\n";

test("a request becomes offsets", () => {
  const raw = bytes(good);
  const head = new Head();
  expect(parseRequest(raw, 0, raw.length, head)).toBe(raw.length);
  expect(text(raw, head.from, head.methodTo)).toBe("POST");
  expect(text(raw, head.pathFrom, head.pathTo)).toBe("/a/b?c=d");
  expect(text(raw, head.authorityFrom, head.authorityTo)).toBe("cart.shop:80");
  expect(fieldsOf(raw, head)).toEqual([
    ["Host", "cart.shop:80"],
    ["Content-Length", "12"],
    ["X-Empty", ""],
    ["X-Space", "a b"],
    ["x-request-id", "7"],
  ]);
  expect([head.contentLength, head.chunked, head.requestId, head.form, head.minor]).toEqual([12, false, 4, form.origin, 1]);
});

test("every prefix of a good head asks for more, and never for less than it reads", () => {
  const samples = [
    good,
    "CONNECT cart:80 HTTP/1.1\r\nHost: cart:80\r\n\r\n",
    "GET http://cart.shop/x HTTP/1.1\r\nHost: other\r\nConnection: close, X-A\r\nX-A: 1\r\n\r\n",
    "\r\nOPTIONS * HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
  ];
  const head = new Head();
  for (const sample of samples) {
    const raw = bytes(`${sample}GARBAGE`);
    for (let to = 0; to < sample.length; to++)
      expect([sample.slice(0, to), parseRequest(raw, 0, to, head)]).toEqual([sample.slice(0, to), 0]);
    expect(parseRequest(raw, 0, raw.length, head)).toBe(sample.length);
    // The same somewhere within a buffer.
    const shifted = bytes(`xyz${sample}GARBAGE`);
    expect(parseRequest(shifted, 3, shifted.length, head)).toBe(sample.length);
    expect(head.to).toBe(3 + sample.length);
  }
});

const r = refusal;
const malformed: readonly (readonly [string, string, number])[] = [
  ["no method", " / HTTP/1.1\r\nHost: x\r\n\r\n", r.startLine],
  ["two spaces", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", r.startLine],
  ["no version (HTTP/0.9)", "GET /\r\n\r\n", r.startLine],
  ["tab for space", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", r.startLine],
  ["method of strange bytes", "G(T / HTTP/1.1\r\nHost: x\r\n\r\n", r.startLine],
  ["long method", `${"G".repeat(40)} / HTTP/1.1\r\nHost: x\r\n\r\n`, r.method],
  ["control byte in the target", "GET /\u0001 HTTP/1.1\r\nHost: x\r\n\r\n", r.target],
  ["non-ASCII target", "GET /\u00e4 HTTP/1.1\r\nHost: x\r\n\r\n", r.target],
  ["fragment", "GET /#a HTTP/1.1\r\nHost: x\r\n\r\n", r.target],
  ["relative target", "GET a HTTP/1.1\r\nHost: x\r\n\r\n", r.target],
  ["asterisk with GET", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", r.target],
  ["https through a plain proxy", "GET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n", r.target],
  ["user information", "GET http://a@x/ HTTP/1.1\r\nHost: x\r\n\r\n", r.target],
  ["CONNECT without port", "CONNECT x HTTP/1.1\r\nHost: x\r\n\r\n", r.target],
  ["CONNECT with a body", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", r.content],
  ["long target", `GET /${"a".repeat(defaultLimits.targetBytes)} HTTP/1.1\r\nHost: x\r\n\r\n`, r.targetTooLong],
  ["HTTP/2", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", r.version],
  ["the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", r.version],
  ["lower case version", "GET / http/1.1\r\nHost: x\r\n\r\n", r.startLine],
  ["words after the version", "GET / HTTP/1.1 x\r\nHost: x\r\n\r\n", r.startLine],
  ["bare LF after the request line", "GET / HTTP/1.1\nHost: x\r\n\r\n", r.lineEnd],
  ["bare CR after the request line", "GET / HTTP/1.1\rHost: x\r\n\r\n", r.lineEnd],
  ["bare LF after a field", "GET / HTTP/1.1\r\nHost: x\n\r\n", r.lineEnd],
  ["CR within a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", r.lineEnd],
  ["NUL within a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\u0000c\r\n\r\n", r.fieldValue],
  ["DEL within a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\u007fc\r\n\r\n", r.fieldValue],
  ["space before the colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", r.fieldName],
  ["empty name", "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", r.fieldName],
  ["no colon", "GET / HTTP/1.1\r\nHost: x\r\nabc\r\n\r\n", r.fieldName],
  ["folded field", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", r.folding],
  ["space before the first field", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", r.folding],
  ["no Host", "GET / HTTP/1.1\r\nA: b\r\n\r\n", r.host],
  ["two Hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", r.host],
  ["Host with a path", "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", r.host],
  ["Host with a port that is none", "GET / HTTP/1.1\r\nHost: x:99999\r\n\r\n", r.host],
  ["two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", r.contentLength],
  ["length list", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na", r.contentLength],
  ["signed length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na", r.contentLength],
  ["hexadecimal length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\na", r.contentLength],
  ["empty length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", r.contentLength],
  ["huge length", `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${"9".repeat(20)}\r\n\r\n`, r.contentLength],
  ["chunked and a length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", r.bothFramings],
  ["chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", r.bothFramings],
  ["gzip coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", r.coding],
  ["chunked twice", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", r.codingOrder],
  ["coding that only looks like chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", r.codingOrder],
  ["identity", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n", r.codingOrder],
  ["too many fields", `GET / HTTP/1.1\r\nHost: x\r\n${"A: b\r\n".repeat(defaultLimits.fields)}\r\n`, r.fields],
];

for (const [name, sample, code] of malformed) {
  test(`refused: ${name}`, () => {
    expect(parse(sample)).toBe(-code);
    // Every split gives the same verdict, or asks for more until the fault is there.
    const raw = bytes(sample);
    const head = new Head();
    for (let to = 0; to <= raw.length; to++) expect([0, -code]).toContain(parseRequest(raw, 0, to, head));
  });
}

test("fields for one hop are marked, framing never is", () => {
  const raw = bytes(
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: x-a ,host, content-length,  close\r\nX-A: 1\r\nContent-Length: 3\r\nKeep-Alive: 1\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Connection: x\r\n\r\n",
  );
  const head = new Head();
  expect(parseRequest(raw, 0, raw.length, head)).toBe(raw.length);
  const dropped = fieldsOf(raw, head).filter((_, i) => (head.kind[i] as number) >= field.dropFrom);
  expect(dropped.map(([name]) => name)).toEqual(["Connection", "X-A", "Keep-Alive", "TE", "Upgrade", "Proxy-Connection"]);
  expect([head.close, head.contentLength, head.upgrade]).toEqual([true, 3, -1]);
});

test("an absolute target decides over Host", () => {
  const raw = bytes("GET http://Cart.shop:80?x HTTP/1.1\r\nHost: other\r\n\r\n");
  const head = new Head();
  expect(parseRequest(raw, 0, raw.length, head)).toBe(raw.length);
  expect([text(raw, head.authorityFrom, head.authorityTo), text(raw, head.pathFrom, head.pathTo), head.form]).toEqual([
    "Cart.shop:80",
    "?x",
    form.absolute,
  ]);
});

test("answers: status line, framing fields, and what is refused", () => {
  const head = new Head();
  const answer = (value: string) => parseAnswer(bytes(value), 0, value.length, head);
  const ok = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n";
  expect(answer(`${ok}abc`)).toBe(ok.length);
  expect([head.status, head.minor, head.keepAlive, head.contentLength]).toEqual([200, 0, true, 3]);
  for (let to = 0; to < ok.length; to++) expect(answer(ok.slice(0, to))).toBe(0);
  expect(answer("HTTP/1.1 204\r\n\r\n")).toBe(16);
  for (const bad of [
    "HTTP/2 200 OK\r\n\r\n",
    "HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/1.1  200 OK\r\n\r\n",
    "HTTP/1.1 099 x\r\n\r\n",
    "HTTP/1.1 2000 x\r\n\r\n",
    "ICY 200 OK\r\n\r\n",
    "HTTP/1.1 200 O\u0000K\r\n\r\n",
  ]) {
    expect([bad, answer(bad) < 0]).toEqual([bad, true]);
  }
  expect(answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")).toBe(-refusal.bothFramings);
});

test("bounded fuzz: any bytes give a number, and an accepted head reads the same again", () => {
  const head = new Head();
  const again = new Head();
  const word = fc.string({
    unit: fc.constantFrom(
      "a",
      "B",
      "1",
      "-",
      ":",
      " ",
      "\t",
      "\r",
      "\n",
      "\r\n",
      "/",
      "?",
      ",",
      "chunked",
      "Host",
      "Content-Length",
      "\u0000",
      "\u00ff",
    ),
    maxLength: 12,
  });
  const head_ = fc.tuple(
    fc.constantFrom("GET", "POST", "CONNECT", "G ET", ""),
    fc.constantFrom("/", "*", "http://x/", "x:1", "a b"),
    fc.constantFrom("HTTP/1.1", "HTTP/1.0", "HTTP/3"),
    fc.array(fc.tuple(word, word), { maxLength: 5 }),
  );
  fc.assert(
    fc.property(head_, fc.uint8Array({ maxLength: 20 }), ([method, target, version, fields], tail) => {
      const raw = Buffer.concat([
        bytes(`${method} ${target} ${version}\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`),
        tail,
      ]);
      const used = parseRequest(raw, 0, raw.length, head);
      if (used <= 0) return used > -100;
      // What was accepted has no bare CR or LF within any field, and parses alone to the same offsets.
      for (const [name, value] of fieldsOf(raw, head)) expect(/[\r\n\0]/.test(name + value) || name === "").toBe(false);
      expect(parseRequest(raw, 0, used, again)).toBe(used);
      return again.count === head.count && again.contentLength === head.contentLength && again.chunked === head.chunked;
    }),
    { numRuns: 3_000, interruptAfterTimeLimit: 1_500 },
  );
});

test("a listener's own limits, up to and beyond the first places for fields", () => {
  const head = new Head();
  head.limits = { ...defaultLimits, fields: 300, targetBytes: 10, bodyBytes: 5 };
  const many = (count: number) =>
    bytes(`GET / HTTP/1.1\r\nHost: x\r\n${Array.from({ length: count - 1 }, (_, i) => `a${i}: v${i}\r\n`).join("")}\r\n`);
  const full = many(300);
  expect(parseRequest(full, 0, full.length, head)).toBe(full.length);
  expect([head.count, fieldsOf(full, head)[299]]).toEqual([300, ["a298", "v298"]]);
  const over = many(301);
  expect(parseRequest(over, 0, over.length, head)).toBe(-refusal.fields);
  const target = (size: number) => bytes(`GET /${"a".repeat(size - 1)} HTTP/1.1\r\nHost: x\r\n\r\n`);
  expect(parseRequest(target(10), 0, target(10).length, head)).toBePositive();
  expect(parseRequest(target(11), 0, target(11).length, head)).toBe(-refusal.targetTooLong);
  const body = (size: number) => bytes(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\n`);
  expect(parseRequest(body(5), 0, body(5).length, head)).toBePositive();
  expect(parseRequest(body(6), 0, body(6).length, head)).toBe(-refusal.bodyTooLarge);
  // A lower limit than the places there are.
  head.limits = { ...defaultLimits, fields: 2 };
  expect(parseRequest(many(2), 0, many(2).length, head)).toBePositive();
  expect(parseRequest(many(3), 0, many(3).length, head)).toBe(-refusal.fields);
});

test("TE, Expect and Upgrade: what the exchange is told, and what is not forwarded because it would mean nothing", () => {
  const head = new Head();
  const kinds = (value: string): string => {
    const raw = bytes(value);
    expect(parseRequest(raw, 0, raw.length, head)).toBe(raw.length);
    return fieldsOf(raw, head)
      .filter((_, i) => (head.kind[i] as number) >= field.dropFrom)
      .map(([name]) => name)
      .join(",");
  };
  const get = (extra: string, version = "1.1") => `GET / HTTP/${version}\r\nHost: x\r\n${extra}\r\n`;
  for (const [value, takes] of [
    ["trailers", true],
    ["gzip, Trailers;q=0.5", true],
    ["gzip", false],
    ["trailersx", false],
    ["", false],
  ] as const) {
    expect(kinds(get(`TE: ${value}\r\n`))).toBe("TE");
    expect([value, head.teTrailers]).toEqual([value, takes]);
  }
  expect(kinds(get("Expect: 100-Continue\r\nContent-Length: 1\r\n"))).toBe("");
  expect(head.expectContinue).toBe(true);
  expect(kinds(get("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"))).toBe("");
  expect(head.expectContinue).toBe(true);
  for (const [extra, version] of [
    ["Expect: 100-continue\r\n", "1.1"],
    ["Expect: 100-continue\r\nContent-Length: 0\r\n", "1.1"],
    ["Expect: 100-continue\r\nContent-Length: 1\r\n", "1.0"],
  ] as const) {
    expect(kinds(get(extra, version))).toBe("Expect");
    expect(head.expectContinue).toBe(false);
  }
  head.openBody = true;
  expect(kinds(get("Expect: 100-continue\r\n"))).toBe("");
  expect(head.expectContinue).toBe(true);
  head.openBody = false;
  kinds(get("Connection: upgrade\r\nUpgrade: websocket\r\n"));
  expect(head.upgrade).toBe(2);
  for (const extra of ["Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"]) {
    kinds(get(`Connection: upgrade\r\nUpgrade: websocket\r\n${extra}`));
    expect(head.upgrade).toBe(-1);
  }
  expect(kinds(get("Trailer: a\r\n"))).toBe("");
  expect(kinds(get("Connection: trailer\r\nTrailer: a\r\n"))).toBe("Connection,Trailer");
  expect(kinds(get("x-request-id: 1\r\nConnection: x-request-id\r\n"))).toBe("x-request-id,Connection");
  expect(head.requestId).toBe(-1);
});

test("tabs around framing fields become spaces where they stand", () => {
  const raw = bytes("POST / HTTP/1.1\r\nHost:\tx \t\r\nContent-Length: \t1\t\r\nA:\tb\r\n\r\n");
  expect(parseRequest(raw, 0, raw.length, new Head())).toBe(raw.length);
  expect(raw.toString("latin1")).toBe("POST / HTTP/1.1\r\nHost: x  \r\nContent-Length:  1 \r\nA:\tb\r\n\r\n");
  const chunked = bytes("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\tchunked\r\n\r\n");
  expect(parseRequest(chunked, 0, chunked.length, new Head())).toBe(chunked.length);
  expect(chunked.toString("latin1")).toContain("Transfer-Encoding: chunked\r\n");
});
