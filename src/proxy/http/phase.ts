// Owns: the states of an exchange. idle -> waiting -> answering -> idle, or waiting -> tunnel -> idle.

export const phase = { idle: 0, waiting: 1, answering: 2, tunnel: 3 } as const;
