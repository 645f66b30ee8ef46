// Owns: the two ways a verb ends badly. `main.ts` prints them; nothing else writes to stderr and exits.

/** Something went wrong that the user should know about: exit status 1 unless `status` says otherwise. `message` may have several lines. */
export class CliFailure extends Error {
  override readonly name = "CliFailure";
  readonly status: number;
  constructor(message: string, status = 1) {
    super(message);
    this.status = status;
  }
}

/** The command line itself is wrong: exit status 2, and a pointer to the verb's help. */
export class UsageFailure extends Error {
  override readonly name = "UsageFailure";
}

/** Text of any thrown value, for messages. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
