// Owns: what circuit breaking does just now about one service, as a list: instances that callers have taken out, limits that refuse. Nothing where all is well.

import type { ReactNode } from "react";
import { HealthIcon } from "../chrome/icons.tsx";
import type { Circuit } from "../model/circuits.ts";
import type { Selection } from "../model/location.ts";

export interface CircuitsProps {
  readonly circuits: readonly Circuit[];
  /** Of the panel: what is about it is told from the other end. */
  readonly service: string;
  readonly onSelect: (selection: Selection) => void;
}

export function Circuits({ circuits, service, onSelect }: CircuitsProps): ReactNode {
  if (circuits.length === 0) return null;
  return (
    <section aria-label="Circuit breaking">
      <h3>
        Circuit breaking <small>{circuits.length}</small>
      </h3>
      <ul className="circuits">
        {circuits.map((one) => {
          const other = one.service === service ? one.callerService : one.service;
          return (
            <li key={`${one.kind} ${one.caller} ${one.service} ${one.instance} ${one.reason}`} className="problem">
              <HealthIcon health="warn" />{" "}
              {one.kind === "ejected" ? (
                <>
                  <b>{one.instance}</b> is taken out of the balance by <b>{one.caller}</b>: {one.reason}
                </>
              ) : (
                <>
                  <b>{one.caller}</b> refuses calls to <b>{one.service}</b>: {one.reason} is reached
                </>
              )}{" "}
              {other !== service && (
                <button type="button" className="link inline" onClick={() => onSelect({ kind: "service", id: other })}>
                  {other}
                </button>
              )}
            </li>
          );
        })}
      </ul>
    </section>
  );
}
