// What a client rejected, and whether it is offered again on its next stream.

import { describe, expect, test } from "bun:test";
import { Ledger } from "./ledger.ts";
import { maxRemembered, maxRememberedNames, Quarantine } from "./quarantine.ts";
import { snapshot } from "./support.ts";
import type { Mode } from "./type-ledger.ts";

/** A stream that holds version 1 of a and b and is offered version 2 of b. */
function stream(mode: Mode = "delta", b = "b=2") {
  const ledger = new Ledger(mode);
  ledger.setTarget(snapshot("w", { route: ["a", b] }));
  return {
    ledger,
    subscribe() {
      if (mode === "delta") ledger.receiveDelta("route", ["a", "b"], [], { a: "a@1", b: "b@1" }, "", undefined);
      else ledger.receiveState("route", ["a", "b"], "some", "", undefined);
    },
    /** Names offered next. */
    offered: () => ledger.next()?.resources.map(({ name, version }) => `${name} ${version}`) ?? null,
    reject(error: string) {
      const offer = ledger.next()!;
      if (mode === "delta") ledger.receiveDelta("route", [], [], {}, offer.nonce, error);
      else ledger.receiveState("route", ["a", "b"], "", offer.nonce, error);
    },
  };
}

function rejected(mode: Mode = "delta"): Quarantine {
  const quarantine = new Quarantine();
  const first = stream(mode);
  first.subscribe();
  first.reject("route b: weights add up to zero");
  quarantine.remember("shop/web", "weft/1", first.ledger);
  return quarantine;
}

describe("a rejected version", () => {
  for (const mode of ["delta", "sotw"] as const)
    test(`${mode}: is not offered on the next stream, and stays visible there`, () => {
      const quarantine = rejected(mode);
      const next = stream(mode);
      quarantine.recall("shop/web", "weft/1", next.ledger);
      next.subscribe();
      const offered = next.offered();
      expect(offered ?? []).not.toContain("b b@2");
      expect([...next.ledger.type("route").quarantined()]).toEqual([
        { name: "b", version: "b@2", reason: "route b: weights add up to zero" },
      ]);
      expect(next.ledger.settled()).toBe(false);
      // Nor on the one after it.
      quarantine.remember("shop/web", "weft/1", next.ledger);
      const third = stream(mode);
      quarantine.recall("shop/web", "weft/1", third.ledger);
      third.subscribe();
      expect(third.offered() ?? []).not.toContain("b b@2");
    });

  test("is offered once its content has changed, before or after the client is back", () => {
    const before = stream("delta", "b=3");
    rejected().recall("shop/web", "weft/1", before.ledger);
    before.subscribe();
    expect(before.offered()).toEqual(["b b@3"]);

    const after = stream();
    rejected().recall("shop/web", "weft/1", after.ledger);
    after.subscribe();
    expect(after.offered()).toEqual([]);
    after.ledger.receiveDelta("route", [], [], {}, "1", undefined);
    after.ledger.setTarget(snapshot("w", { route: ["a", "b=3"] }));
    expect(after.offered()).toEqual(["b b@3"]);
    expect([...after.ledger.type("route").quarantined()]).toEqual([]);
  });

  test("is offered to another build, to another node, and to a client that holds it after all", () => {
    for (const [key, agent] of [
      ["shop/web", "weft/2"],
      ["shop/other", "weft/1"],
    ] as const) {
      const next = stream();
      rejected().recall(key, agent, next.ledger);
      next.subscribe();
      expect(next.offered()).toEqual(["b b@2"]);
    }
    const holder = stream();
    rejected().recall("shop/web", "weft/1", holder.ledger);
    holder.ledger.receiveDelta("route", ["a", "b"], [], { a: "a@1", b: "b@2" }, "", undefined);
    expect(holder.offered()).toEqual([]);
    expect([...holder.ledger.type("route").quarantined()]).toEqual([]);
  });

  test("of clusters by state of the world is offered again: leaving it out would delete what the client runs", () => {
    const make = () => {
      const ledger = new Ledger("sotw");
      ledger.setTarget(snapshot("w", { cluster: ["a", "b=2"] }));
      ledger.receiveState("cluster", [], "some", "", undefined);
      return ledger;
    };
    const first = make();
    const offer = first.next()!;
    first.receiveState("cluster", [], "", offer.nonce, "cluster b: no");
    const quarantine = new Quarantine();
    quarantine.remember("shop/web", "weft/1", first);
    const next = make();
    quarantine.recall("shop/web", "weft/1", next);
    expect(next.next()?.resources.map(({ name }) => name)).toEqual(["a", "b"]);
  });

  test("what lies in the client's surroundings is forgotten with the stream", () => {
    const ledger = new Ledger("delta");
    ledger.setTarget(snapshot("w", { listener: ["l"] }));
    ledger.receiveDelta("listener", [], [], {}, "", undefined);
    const offer = ledger.next()!;
    ledger.receiveDelta("listener", [], [], {}, offer.nonce, undefined);
    ledger.receiveDelta("listener", [], [], {}, offer.nonce, "listener l: port 80 is in use");
    expect([...ledger.type("listener").quarantined()].length).toBe(1);
    const quarantine = new Quarantine();
    quarantine.remember("shop/web", "weft/1", ledger);
    expect(quarantine.size).toBe(0);
  });

  test("a stream that ends with nothing rejected ends the memory, but not that of another build", () => {
    const clean = stream();
    clean.subscribe();
    const quarantine = rejected();
    quarantine.remember("shop/web", "weft/2", clean.ledger);
    expect(quarantine.size).toBe(1);
    quarantine.remember("shop/web", "weft/1", clean.ledger);
    expect(quarantine.size).toBe(0);
  });
});

test("clients and their names are remembered up to a number, the longest unheard-of go", () => {
  const ledger = new Ledger("delta");
  const names = Array.from({ length: maxRememberedNames + 50 }, (_each, n) => `r${n}`);
  ledger.setTarget(snapshot("w", { route: names }));
  ledger.receiveDelta("route", names, [], {}, "", undefined);
  ledger.receiveDelta("route", [], [], {}, ledger.next()!.nonce, "all of them");
  const quarantine = new Quarantine();
  quarantine.remember("first", "weft/1", ledger);
  const back = new Ledger("delta");
  back.setTarget(snapshot("w", { route: names }));
  quarantine.recall("first", "weft/1", back);
  back.receiveDelta("route", names, [], {}, "", undefined);
  expect(back.next()?.resources.length).toBe(50);

  const one = new Ledger("delta");
  one.setTarget(snapshot("w", { route: ["r"] }));
  one.receiveDelta("route", ["r"], [], {}, "", undefined);
  one.receiveDelta("route", [], [], {}, one.next()!.nonce, "no");
  for (let n = 0; n < maxRemembered; n++) quarantine.remember(`w${n}`, "weft/1", one);
  expect(quarantine.size).toBe(maxRemembered);
  const forgotten = stream();
  quarantine.recall("first", "weft/1", forgotten.ledger);
  forgotten.subscribe();
  expect(forgotten.offered()).toEqual(["b b@2"]);
});
