import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { join } from 'node:path';
import { contentsText, type ReadTensor, type Verdict } from './verdict';

type Reply = { refused: string } | { metadata: Record<string, string>; tensors: ReadTensor[] };

/** The official Python package in a process of its own, which answers until it is closed. */
export class Oracle {
  private received: Buffer = Buffer.alloc(0);
  private wake: () => void = () => {};
  private ended = false;
  private errors = '';

  private constructor(private readonly child: ChildProcessWithoutNullStreams) {
    child.stdout.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.wake();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      this.errors += chunk;
    });
    for (const event of ['error', 'close'] as const) {
      child.on(event, () => {
        this.ended = true;
        this.wake();
      });
    }
    child.stdin.on('error', () => {}); // the process is gone, which `close` tells
  }

  /** @returns the process and the package's version */
  static async start(python: string): Promise<{ oracle: Oracle; version: string }> {
    const oracle = new Oracle(spawn(python, [join(__dirname, 'oracle.py')]));
    const first = (await oracle.next().catch(() => ({}))) as { version?: string };
    if (first.version !== undefined) return { oracle, version: first.version };
    throw new Error(
      `${python} has no safetensors package to compare with. Install it ("pip install safetensors") or name another Python by --python.`,
    );
  }

  /** The official reader's verdicts, in the order of the files. */
  async judge(files: readonly Uint8Array[]): Promise<Verdict[]> {
    for (const file of files) {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(file.byteLength);
      this.child.stdin.write(length);
      this.child.stdin.write(file);
    }
    const verdicts: Verdict[] = [];
    for (const _ of files) {
      const reply = (await this.next()) as Reply;
      verdicts.push('refused' in reply ? reply : { contents: contentsText(Object.entries(reply.metadata), reply.tensors) });
    }
    return verdicts;
  }

  close(): void {
    this.child.stdin.end();
  }

  private async next(): Promise<unknown> {
    const bytes = (count: number): Promise<Buffer> => this.take(count);
    return JSON.parse((await bytes((await bytes(4)).readUInt32LE())).toString());
  }

  private async take(count: number): Promise<Buffer> {
    while (this.received.length < count) {
      if (this.ended) throw new Error(`The oracle ended: ${this.errors}`);
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    const taken = this.received.subarray(0, count);
    this.received = this.received.subarray(count);
    return taken;
  }
}
