import { describe, expect, test } from "bun:test";
import { hopBootstrap } from "./bootstrap.ts";

const withoutPorts = (text: string): string => text.replaceAll(/"port_value": \d+/g, '"port_value": N');

describe("the bootstrap that Weft and Envoy share", () => {
  test("differs between two subjects in nothing but ports", () => {
    const first = hopBootstrap({ listen: 1001, admin: 1002, origin: 9000 });
    const second = hopBootstrap({ listen: 2001, admin: 2002, origin: 9000 });
    expect(first).not.toBe(second);
    expect(withoutPorts(first)).toBe(withoutPorts(second));
  });

  test("carries routing, both policies and request ids", () => {
    const { static_resources: resources } = JSON.parse(hopBootstrap({ listen: 1, admin: 2, origin: 3 }));
    const manager = resources.listeners[0].filter_chains[0].filters[0].typed_config;
    expect(manager.generate_request_id).toBe(true);
    const actions = manager.http_filters.map(
      (filter: { typed_config: { rules?: { action: string } } }) => filter.typed_config.rules?.action,
    );
    expect(actions).toEqual(["DENY", "ALLOW", undefined]);
    expect(manager.route_config.virtual_hosts.map((host: { domains: string[] }) => host.domains)).toEqual([
      ["other.example"],
      ["shop.example"],
    ]);
  });
});
