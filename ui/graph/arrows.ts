// Owns: which item the arrow keys lead to. Pure geometry; the view gives it boxes.

export interface Box {
  readonly x: number;
  readonly y: number;
}

const steps: Readonly<Record<string, Box>> = {
  ArrowLeft: { x: -1, y: 0 },
  ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 },
  ArrowDown: { x: 0, y: 1 },
};

export function isArrow(key: string): boolean {
  return key in steps;
}

/** Index of the nearest centre in the key's direction, sideways distance counting double; -1 when there is none. */
export function nearest(key: string, from: Box, centres: readonly Box[]): number {
  const step = steps[key];
  if (step === undefined) return -1;
  let best = -1;
  let bestCost = Number.POSITIVE_INFINITY;
  centres.forEach((to, index) => {
    const dx = to.x - from.x;
    const dy = to.y - from.y;
    const ahead = dx * step.x + dy * step.y;
    const aside = Math.abs(dx * step.y) + Math.abs(dy * step.x);
    // At least as much ahead as a third of what it is aside: otherwise another key leads there.
    if (ahead <= 1 || ahead * 3 < aside) return;
    const cost = ahead + aside * 2;
    if (cost < bestCost) {
      bestCost = cost;
      best = index;
    }
  });
  return best;
}
