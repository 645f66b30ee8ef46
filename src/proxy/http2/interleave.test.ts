// Two sessions of ours, back to back, with everything in between decided by chance: how bytes are cut, when sockets take them, who sends what when,
// who pauses. Whatever happens, no window is overrun, no byte is lost or changed, and what waits is bounded.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { cancel } from "./errors.ts";
import { limits } from "./limits.ts";
import type { SessionStream } from "./session-stream.ts";
import { Recorder, type Rig, rig } from "./testing.ts";

type Step =
  | { readonly kind: "open" }
  | { readonly kind: "send"; readonly side: 0 | 1; readonly stream: number; readonly size: number; readonly end: boolean }
  | { readonly kind: "trailers"; readonly side: 0 | 1; readonly stream: number }
  | { readonly kind: "pause" | "resume" | "reset"; readonly side: 0 | 1; readonly stream: number }
  | { readonly kind: "move"; readonly side: 0 | 1; readonly size: number }
  | { readonly kind: "room"; readonly side: 0 | 1; readonly size: number };

const side = fc.constantFrom<0 | 1>(0, 1);
const stream = fc.nat({ max: 7 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.constant<Step>({ kind: "open" }) },
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant("send" as const), side, stream, size: fc.nat({ max: 90_000 }), end: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("trailers" as const), side, stream }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("pause" as const, "resume" as const), side, stream }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reset" as const), side, stream }) },
  { weight: 12, arbitrary: fc.record({ kind: fc.constant("move" as const), side, size: fc.nat({ max: 200_000 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("room" as const), side, size: fc.nat({ max: 50_000 }) }) },
);

interface Lane {
  readonly users: [Recorder, Recorder];
  /** What each side has sent, and whether it ended; the answering side begins with its head. */
  readonly sent: [string, string];
  readonly ended: [boolean, boolean];
  headed: boolean;
  dead: boolean;
}

/** Bytes that tell where they belong. */
function bytesOf(at: number, size: number): Buffer {
  const out = Buffer.allocUnsafe(size);
  for (let i = 0; i < size; i++) out[i] = 33 + ((at + i * 7) % 90);
  return out;
}

test("random legal interleavings keep every invariant", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 80 }), (steps) => {
      const client = rig(false, { greeted: false });
      const server = rig(true, { greeted: false });
      const rigs: [Rig, Rig] = [client, server];
      const flying: [Buffer, Buffer] = [Buffer.alloc(0), Buffer.alloc(0)];
      const lanes: Lane[] = [];

      const collect = (from: 0 | 1): void => {
        rigs[from].flush();
        flying[from] = Buffer.concat([flying[from], ...rigs[from].wire.chunks.splice(0)]);
      };
      const move = (from: 0 | 1, size: number): void => {
        collect(from);
        const bytes = flying[from].subarray(0, size);
        flying[from] = flying[from].subarray(bytes.length);
        if (bytes.length > 0) rigs[1 - from]?.session.receive(Buffer.from(bytes));
        for (const lane of lanes) {
          const made = server.users[lanes.indexOf(lane)];
          if (made !== undefined) lane.users[1] = made;
        }
      };
      const check = (): void => {
        for (const one of rigs) {
          expect(one.ended).toBe("");
          expect(one.session.flow.window).toBeGreaterThanOrEqual(0);
          expect(one.session.flow.held).toBeGreaterThanOrEqual(0);
          expect(one.session.flow.held).toBeLessThanOrEqual(limits.heldBytes + limits.largestConnectionWindow);
        }
        for (const lane of lanes)
          for (const user of lane.users)
            if (user.stream !== null && user.closed === 0) expect(user.stream.receiveWindow).toBeGreaterThanOrEqual(0);
      };
      const drain = (which: 0 | 1): void => {
        rigs[which].wire.room = Number.POSITIVE_INFINITY;
        if (rigs[which].box.drain()) rigs[which].session.drained();
      };
      const lane = (one: {
        readonly side: 0 | 1;
        readonly stream: number;
      }): { lane: Lane; stream: SessionStream; user: Recorder } | null => {
        const found = lanes[one.stream % Math.max(1, lanes.length)];
        const user = found?.users[one.side];
        const live = user?.stream ?? null;
        return found === undefined || user === undefined || live === null || user.closed > 0 || found.dead
          ? null
          : { lane: found, stream: live, user };
      };

      for (const one of steps) {
        if (one.kind === "open") {
          if (!client.session.hasRoom || lanes.length >= 8) continue;
          const user = new Recorder();
          const made = client.session.openStream(user);
          const fields = client.session.beginBlock(200);
          fields.indexed(3);
          fields.indexed(6);
          fields.pseudo(4, Buffer.from(`/${lanes.length}`), 0, 2);
          fields.pseudo(1, Buffer.from("a.example"), 0, 9);
          client.session.endBlock(made, false);
          lanes.push({ users: [user, new Recorder()], sent: ["", ""], ended: [false, false], headed: false, dead: false });
        } else if (one.kind === "move") move(one.side, one.size);
        else if (one.kind === "room") {
          rigs[one.side].wire.room = one.size;
        } else {
          const target = lane(one);
          if (target === null) continue;
          const session = rigs[one.side].session;
          const done = target.lane.ended[one.side];
          if (one.side === 1 && !target.lane.headed && (one.kind === "send" || one.kind === "trailers")) {
            target.lane.headed = true;
            session.beginBlock(64).indexed(8);
            session.endBlock(target.stream, false);
          }
          if (one.kind === "send" && !done) {
            const bytes = bytesOf(target.lane.sent[one.side].length, one.size);
            target.lane.sent[one.side] += bytes.toString("latin1");
            target.lane.ended[one.side] = one.end;
            const all = session.send(target.stream, bytes, 0, bytes.length, one.end);
            if (all) expect(target.stream.queued).toBe(0);
          } else if (one.kind === "trailers" && !done) {
            target.lane.ended[one.side] = true;
            session.sendTrailers(target.stream, Buffer.from("x: y\r\n"), 0, 6);
          } else if (one.kind === "pause") session.pause(target.stream);
          else if (one.kind === "resume") session.resume(target.stream);
          else if (one.kind === "reset") {
            target.lane.dead = true;
            session.reset(target.stream, cancel);
          }
        }
        check();
      }

      // Then everything flows: what was said must have come, all of it.
      for (let round = 0; round < 400; round++) {
        for (const which of [0, 1] as const) {
          drain(which);
          for (const one of lanes) {
            const user = one.users[which];
            if (user.stream !== null && user.closed === 0) rigs[which].session.resume(user.stream);
          }
          move(which, Number.POSITIVE_INFINITY);
        }
        if (flying[0].length + flying[1].length === 0 && client.box.waiting + server.box.waiting === 0) {
          collect(0);
          collect(1);
          if (flying[0].length + flying[1].length === 0) break;
        }
      }
      check();
      for (const one of lanes) {
        if (one.dead) continue;
        for (const which of [0, 1] as const) {
          const other = one.users[1 - which] as Recorder;
          expect(other.reset).toBe("");
          if (other.body !== one.sent[which])
            throw new Error(`lane ${lanes.indexOf(one)}: ${other.body.length} of ${one.sent[which].length} bytes came`);
          expect(other.ended).toBe(one.ended[which]);
        }
        if (one.ended[0] && one.ended[1]) expect(one.users.map((user) => user.closed)).toEqual([1, 1]);
      }
      expect(client.session.flow.held + server.session.flow.held).toBe(0);
      expect(client.session.active).toBe(lanes.filter((one) => !one.dead && !(one.ended[0] && one.ended[1])).length);
    }),
    { numRuns: 120 },
  );
}, 30_000);
