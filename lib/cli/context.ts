/** What every command gets. */
export interface CommandContext {
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  /** Set by a command that a signal ends in order, in place of the signal's own code. */
  exitCode?: number;
}
