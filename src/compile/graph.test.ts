// The graph alone: who is computed when, and what is forgotten.

import { describe, expect, test } from "bun:test";
import { Cell, CircularError, Family, Graph } from "./graph.ts";

function setup() {
  const graph = new Graph();
  const runs: string[] = [];
  const make = <V>(name: string, compute: () => V) =>
    Cell.computed(graph, () => {
      runs.push(name);
      return compute();
    });
  return { graph, runs, make };
}

describe("cells", () => {
  test("nothing is computed before it is read, and then once", () => {
    const { graph, runs, make } = setup();
    const a = Cell.input(graph, 1);
    const b = make("b", () => a.read() + 1);
    a.set(2);
    expect(runs).toEqual([]);
    expect([b.read(), b.read()]).toEqual([3, 3]);
    expect(runs).toEqual(["b"]);
  });

  test("a change reaches its readers and nobody else", () => {
    const { graph, runs, make } = setup();
    const [a, b] = [Cell.input(graph, 1), Cell.input(graph, 1)];
    const ofA = make("ofA", () => a.read());
    const ofB = make("ofB", () => b.read());
    const both = make("both", () => ofA.read() + ofB.read());
    both.read();
    runs.length = 0;
    b.set(5);
    expect(both.read()).toBe(6);
    expect(runs).toEqual(["ofB", "both"]);
  });

  test("a value that turns out the same stops the wave", () => {
    const { graph, runs, make } = setup();
    const a = Cell.input(graph, 1);
    const odd = make("odd", () => a.read() % 2);
    const top = make("top", () => `odd ${odd.read()}`);
    top.read();
    runs.length = 0;
    a.set(3);
    expect(top.read()).toBe("odd 1");
    expect(runs).toEqual(["odd"]);
  });

  test("what is read is what is depended on, from run to run", () => {
    const { graph, runs, make } = setup();
    const [which, a, b] = [Cell.input(graph, "a"), Cell.input(graph, 1), Cell.input(graph, 2)];
    const top = make("top", () => (which.read() === "a" ? a.read() : b.read()));
    expect(top.read()).toBe(1);
    which.set("b");
    expect(top.read()).toBe(2);
    runs.length = 0;
    a.set(10);
    expect(top.read()).toBe(2);
    expect(runs).toEqual([]);
  });

  test("a source that no longer makes sense is not computed for its former reader", () => {
    const { graph, make } = setup();
    const there = Cell.input<{ x: number } | undefined>(graph, { x: 1 });
    const exists = make("exists", () => there.read() !== undefined);
    const x = make("x", () => there.read()!.x);
    const top = make("top", () => (exists.read() ? x.read() : "none"));
    expect(top.read()).toBe(1);
    there.set(undefined);
    expect(top.read()).toBe("none");
  });

  test("watched cells are listed when a change may have reached them, also after several changes", () => {
    const { graph, make } = setup();
    const a = Cell.input(graph, 1);
    const half = make("half", () => Math.floor(a.read() / 2));
    const top = make("top", () => half.read());
    top.watch();
    top.peek();
    graph.touched.clear();
    a.set(2);
    a.set(3);
    expect([...graph.touched]).toEqual([top as Cell<unknown>]);
    expect(top.peek()).toBe(1);
    graph.touched.clear();
    a.set(4);
    expect(graph.touched.size).toBe(1);
  });

  test("a failure is thrown to every reader, and ends when what was read changes", () => {
    const { graph, make } = setup();
    const a = Cell.input(graph, 0);
    const inverse = make("inverse", () => {
      if (a.read() === 0) throw new RangeError("zero");
      return 1 / a.read();
    });
    const top = make("top", () => inverse.read());
    expect(() => top.read()).toThrow(RangeError);
    expect(() => top.read()).toThrow(RangeError);
    a.set(2);
    expect(top.read()).toBe(0.5);
    a.set(0);
    expect(() => top.read()).toThrow(RangeError);
    a.set(4);
    expect(top.read()).toBe(0.25);
  });

  test("a value made from itself is refused", () => {
    const { graph, make } = setup();
    const loop: Cell<number> = make("loop", () => loop.read() + 1);
    expect(() => loop.read()).toThrow(CircularError);
    expect(graph.running).toBeUndefined();
  });

  test("what nobody reads any more is forgotten, with what it alone was made from", () => {
    const graph = new Graph();
    const flag = Cell.input(graph, true);
    const lower = new Family(graph, (key) => `lower ${key}`);
    const upper = new Family(graph, (key) => lower.cell(key).read());
    const top = Cell.computed(graph, () => (flag.read() ? upper.cell("a").read() : "nothing"));
    top.watch();
    top.peek();
    upper.cell("b").read();
    graph.sweep();
    expect([upper.size, lower.size]).toEqual([1, 1]);
    flag.set(false);
    expect(top.peek()).toBe("nothing");
    graph.sweep();
    expect([upper.size, lower.size]).toEqual([0, 0]);
    flag.set(true);
    expect(top.peek()).toBe("lower a");
  });
});
