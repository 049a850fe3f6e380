import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** A prompt to be gone on from greedily. Nothing of an earlier one may be used again. */
export interface Task {
  /** Which of the worker's models. */
  readonly model: string;
  readonly ids: readonly number[];
  readonly newTokens: number;
}

export interface Done {
  /** Milliseconds from the prompt's ids to the first new one. */
  readonly first: number;
  /** Milliseconds for all others. */
  readonly rest: number;
  readonly ids: readonly number[];
}

/** What a worker says when it is ready, in one line of JSON: its version, and its models with the bytes of their weights. */
export interface Ready {
  readonly version: string;
  readonly models: Readonly<Record<string, number>>;
}

/** A process that holds its models and answers tasks, each a line of JSON on its standard input, by lines of JSON on its standard output. */
export class Worker {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  constructor(
    private readonly name: string,
    command: string,
    commandArguments: readonly string[],
  ) {
    this.child = spawn(command, commandArguments, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.child.on('error', (error) => console.error(`${name}: ${error.message}`));
    this.lines = createInterface({ input: this.child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  }

  ready(): Promise<Ready> {
    return this.answer();
  }

  run(task: Task): Promise<Done> {
    this.child.stdin?.write(`${JSON.stringify(task)}\n`);
    return this.answer();
  }

  stop(): void {
    this.child.stdin?.end();
  }

  /** The next line that is JSON: libraries print banners. */
  private async answer<T>(): Promise<T> {
    for (;;) {
      const { value, done } = await this.lines.next();
      if (done) throw new Error(`The process of ${this.name} ended; what it said is above.`);
      if (value.startsWith('{')) return JSON.parse(value) as T;
    }
  }
}

/** The other end, for workers in Node: answers every task that comes. */
export async function serve(ready: Ready, run: (task: Task) => Promise<Done>): Promise<void> {
  console.log(JSON.stringify(ready));
  for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(await run(JSON.parse(line) as Task)));
}
