import { availableParallelism } from 'node:os';
import { BLOCKS, IMAGE_TOKEN } from './llava_7b';
import { type Budget, type Facts, prefillScale, stepOf } from './report_7b';
import { type Done, Worker } from './small_worker';
import { table } from './statistics';

/** Their answer has these milliseconds too: tower with projector, and the head for one row. */
interface PeerDone extends Done {
  readonly vision: number;
  readonly head: number;
}

interface Lowest {
  readonly dtype: string;
  readonly tokens: number;
  first: number;
  vision: number;
  prefill: number;
  step: number;
  head: number;
  rounds: number;
}

/** Torch has no fast product in bfloat16 where the processor has no instructions for it: minutes a round. */
const ROUNDS: Readonly<Record<string, number>> = { bfloat16: 1, float32: Number.POSITIVE_INFINITY };

/** transformers with the same checkpoint, in a process that waits while we work. It has no pruning: of the features as many are taken as we keep. */
export class Peer {
  private readonly lowest: Lowest[] = [];
  private version = '';

  private constructor(
    private readonly worker: Worker,
    private readonly blocks: number,
    private readonly newTokens: number,
  ) {}

  static async start(python: string, directory: string, blocks: number, newTokens: number): Promise<Peer> {
    const threads = String(availableParallelism());
    const peer = new Peer(
      new Worker('transformers', python, ['bench/peer_transformers.py', directory, threads, ...Object.keys(ROUNDS)]),
      blocks,
      newTokens,
    );
    peer.version = (await peer.worker.ready()).version;
    return peer;
  }

  async measure({ tokens }: Budget, text: number): Promise<void> {
    const ids = [1, ...new Array<number>(tokens).fill(IMAGE_TOKEN), ...Array.from({ length: text - 1 }, (_, i) => 100 + 7 * i)];
    for (const [dtype, rounds] of Object.entries(ROUNDS)) {
      const own = this.of(dtype, tokens);
      if (own.rounds++ >= rounds) continue;
      const done = (await this.worker.run({ model: dtype, ids, newTokens: this.newTokens + 1 })) as PeerDone;
      const prefill = done.first - done.vision - done.head;
      own.first = Math.min(own.first, done.first + prefill * (BLOCKS / this.blocks - 1));
      own.vision = Math.min(own.vision, done.vision);
      own.prefill = Math.min(own.prefill, prefill);
      own.step = Math.min(own.step, done.rest / this.newTokens);
      own.head = Math.min(own.head, done.head);
    }
  }

  stop(): void {
    this.worker.stop();
  }

  report(facts: Facts): string {
    const scale = BLOCKS / this.blocks;
    const times = (theirs: number, ours: number) => `${(theirs / ours).toFixed(2)}x`;
    const rows = this.lowest.map(({ dtype, tokens, first, vision, prefill, step, head }) => {
      const ours = facts.budgets.find((budget) => budget.tokens === tokens) as Budget;
      const theirStep = head + (step - head) * scale;
      return [
        `${dtype}, ${tokens} visual tokens`,
        (first / 1000).toFixed(2),
        (vision / 1000).toFixed(2),
        ((prefill * scale) / 1000).toFixed(2),
        theirStep.toFixed(0),
        times(first, ours.firstToken),
        times(prefill * scale, ours.prefill * prefillScale(this.blocks)),
        times(theirStep, stepOf(facts, ours)),
      ];
    });
    const header = ['theirs', 'first token, s', 'tower, s', 'prefill, s', 'a token, ms', 'we: first token', 'we: prefill', 'we: a token'];
    const rounds = `bfloat16: ${ROUNDS.bfloat16} round`;
    return `The same weights and shapes in ${this.version} (${rounds}); "we": how many times as fast\n\n${table(header, rows)}`;
  }

  private of(dtype: string, tokens: number): Lowest {
    let own = this.lowest.find((one) => one.dtype === dtype && one.tokens === tokens);
    if (!own) {
      const never = Number.POSITIVE_INFINITY;
      own = { dtype, tokens, first: never, vision: never, prefill: never, step: never, head: never, rounds: 0 };
      this.lowest.push(own);
    }
    return own;
  }
}
