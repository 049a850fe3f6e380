import * as tf from '@tensorflow/tfjs';
import { type BackendName, choosePrecision, float32Factory, type WeightDtype } from '../lib/index';
import { BareOperations, randomBytes, TYPES } from './bare_operations';
import { BLOCK_MATRICES, BLOCKS, PATCHES, VISION_BLOCKS_READ, VISION_MATRICES, VISION_WIDTH, VOCABULARY, WIDTH } from './llava_7b';

type Shape = readonly [inDim: number, outDim: number];

const PATCH_SHAPE: Shape = [3 * 14 * 14, VISION_WIDTH];
const PROJECTOR: readonly Shape[] = [
  [VISION_WIDTH, WIDTH],
  [WIDTH, WIDTH],
];
const HEAD: Shape = [WIDTH, VOCABULARY];

/** A way that is this much slower than the fastest is not tried with more rows. */
const HOPELESS = 2;
const TRIALS = 5;
/** Milliseconds that a sum is measured for in a round, at least. */
const TIME = 1000;

/** One way to multiply rows by one weight. */
interface Way {
  readonly name: string;
  run(x: tf.Tensor2D): void;
}

/** A weight that is held in every way. */
interface Product {
  readonly shape: Shape;
  readonly ways: readonly Way[];
  /** By number of rows. */
  readonly fastest: Map<number, Way>;
}

/** What a sum of products took, each in its best round. */
export interface Bare {
  /** Milliseconds that passed. */
  readonly ms: number;
  /** Milliseconds of processor time. */
  readonly processor: number;
}

/**
 * The products of LLaVA-1.5-7B alone, each in the way that is fastest at that number of rows: the model's own matrices, tfjs's float32 matMul, and
 * TensorFlow's MatMul in bfloat16. Nothing is between them: no norm, no attention, no activation. All matrices of one block are multiplied in turn, so
 * that none is still in the processor's cache.
 */
export class BareProducts {
  private readonly best = new Map<string, Bare>();

  private constructor(
    private readonly groups: ReadonlyMap<string, readonly Product[]>,
    private readonly rows: ReadonlyMap<string, readonly number[]>,
  ) {}

  /** @param tokens visual tokens of the budgets */
  static async make(dtype: WeightDtype, backend: BackendName, tokens: readonly number[], text: number): Promise<BareProducts> {
    // without oneDNN's product of one row: where the processor has it, it is the model's own way
    const bare = new BareOperations(false);
    const of = (shapes: readonly Shape[]) => inTurn(shapes, (shape) => product(shape, dtype, backend, bare));
    const groups = new Map([
      ['block', await of(BLOCK_MATRICES)],
      ['head', await of([HEAD])],
      ['vision', await of(VISION_MATRICES)],
      ['patches', await of([PATCH_SHAPE])],
      ['projector', await of(PROJECTOR)],
    ]);
    const rows = new Map([
      ['block', [1, ...tokens.map((count) => count + text)]],
      ['head', [1]],
      ['vision', [PATCHES + 1]],
      ['patches', [PATCHES]],
      ['projector', tokens],
    ]);
    return new BareProducts(groups, rows);
  }

  /** Finds the fastest way of each. */
  choose(): void {
    for (const [name, products] of this.groups) {
      const candidates = new Map<string, readonly Way[]>();
      for (const rows of [...(this.rows.get(name) ?? [])].sort((a, b) => a - b)) {
        const chosen = new Map<string, string>(); // matrices of the same shape have the same
        const x = inputs(products, rows);
        for (const { shape, ways, fastest } of products) {
          const key = String(shape);
          if (!chosen.has(key)) {
            const { best, hopeful } = compared(candidates.get(key) ?? ways, x.get(shape[0]) as tf.Tensor2D);
            chosen.set(key, best);
            if (rows > 1) candidates.set(key, hopeful);
          }
          fastest.set(rows, ways.find((way) => way.name === chosen.get(key)) as Way);
        }
        tf.dispose([...x.values()]);
      }
    }
  }

  /** Measures a sum once more: of all matrices of a group, in turn, for a second at least. */
  measure(name: string, rows: number): void {
    const products = this.groups.get(name) ?? [];
    const x = inputs(products, rows);
    const begun = performance.now();
    const processorBegun = processorNow();
    let turns = 0;
    do {
      for (const { shape, fastest } of products) (fastest.get(rows) as Way).run(x.get(shape[0]) as tf.Tensor2D);
      turns++;
    } while (performance.now() - begun < TIME);
    const key = `${name} ${rows}`;
    const { ms, processor } = this.best.get(key) ?? { ms: Number.POSITIVE_INFINITY, processor: Number.POSITIVE_INFINITY };
    this.best.set(key, {
      ms: Math.min(ms, (performance.now() - begun) / turns),
      processor: Math.min(processor, (processorNow() - processorBegun) / turns),
    });
    tf.dispose([...x.values()]);
  }

  /** Measures once more what a budget needs: its prefill, its projector, and the decoding behind it. */
  measureBudget(tokens: number, text: number): void {
    this.measure('block', tokens + text);
    this.measure('projector', tokens);
    this.measure('block', 1);
    this.measure('head', 1);
  }

  measureTower(): void {
    this.measure('patches', PATCHES);
    this.measure('vision', PATCHES + 1);
  }

  of(name: string, rows: number): Bare {
    return this.best.get(`${name} ${rows}`) as Bare;
  }

  /** In which ways the matrices of a group are multiplied. */
  ways(name: string, rows: number): string[] {
    return [...new Set((this.groups.get(name) ?? []).map(({ fastest }) => (fastest.get(rows) as Way).name))];
  }

  /** All products of the vision tower. */
  get tower(): Bare {
    return sum([this.of('patches', PATCHES), 1], [this.of('vision', PATCHES + 1), VISION_BLOCKS_READ]);
  }

  /** All products between the tower and the first token: projector, decoder, head for one row. */
  prefill(tokens: number, text: number, blocks: number): Bare {
    return sum([this.of('projector', tokens), 1], [this.of('block', tokens + text), prefillBlocks(blocks)], [this.of('head', 1), 1]);
  }

  /** All products up to the first token. */
  firstToken(tokens: number, text: number): Bare {
    return sum([this.tower, 1], [this.prefill(tokens, text, BLOCKS), 1]);
  }

  /** All products of one more token. */
  step(blocks: number): Bare {
    return sum([this.of('block', 1), blocks], [this.of('head', 1), 1]);
  }
}

function sum(...parts: readonly (readonly [Bare, times: number])[]): Bare {
  const total = (of: (part: Bare) => number) => parts.reduce((all, [part, times]) => all + times * of(part), 0);
  return { ms: total(({ ms }) => ms), processor: total(({ processor }) => processor) };
}

/** Milliseconds that this process computed so far. */
export function processorNow(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Multiply-adds of a decoder block, twice, for a number of rows. */
export function blockWork(rows: number): number {
  return BLOCK_MATRICES.reduce((sum, [inDim, outDim]) => sum + 2 * rows * inDim * outDim, 0);
}

/** Whole blocks of work in the prefill of some: of the last one, only keys and values are of all rows. */
export function prefillBlocks(blocks: number): number {
  return blocks === 0 ? 0 : blocks - 1 + (2 * WIDTH * WIDTH) / BLOCK_ELEMENTS;
}

/** Elements of all matrices of a decoder block, and of the head. */
export const BLOCK_ELEMENTS: number = blockWork(1) / 2;
export const HEAD_ELEMENTS: number = HEAD[0] * HEAD[1];

async function product(shape: Shape, dtype: WeightDtype, backend: BackendName, bare: BareOperations): Promise<Product> {
  const [inDim, outDim] = shape;
  const bytes = randomBytes(inDim * outDim, 'bfloat16');
  const stored = { name: 'w', dtype: 'BF16', shape: [outDim, inDim], bytes } as const;
  const weight = bare.weight(bytes, [outDim, inDim], TYPES.bfloat16);
  const zeros = bare.cast(bare.idOf(tf.zeros([outDim])), TYPES.float32, TYPES.bfloat16);
  const ways: Way[] = [];
  const { factory } = await choosePrecision(dtype, backend, 'bfloat16');
  for (const [name, own] of [
    [`Matrix ${dtype}`, factory],
    ['matMul float32', float32Factory()], // tfjs's, whatever the model's own are
  ] as const) {
    const matrix = await own.matrix('w', inDim, outDim, stored, { head: false, pause: async () => {} });
    ways.push({ name, run: (x) => matrix.apply(x).dispose() });
  }
  const run = (x: tf.Tensor2D) => {
    const narrow = bare.cast(bare.idOf(x), TYPES.float32, TYPES.bfloat16);
    bare.free(bare.product(x.shape[0], TYPES.bfloat16, narrow, weight, zeros));
    bare.free(narrow);
  };
  return { shape, ways: [...ways, { name: 'MatMul bfloat16', run }], fastest: new Map() };
}

/** Rows for the products, by their width. */
function inputs(products: readonly Product[], rows: number): Map<number, tf.Tensor2D> {
  const widths = new Set(products.map(({ shape }) => shape[0]));
  return new Map(Array.from(widths, (width) => [width, tf.randomNormal<tf.Rank.R2>([rows, width], 0, 1, 'float32', 1)]));
}

/** The fastest way, and all that are worth trying with more rows. */
function compared(ways: readonly Way[], x: tf.Tensor2D): { readonly best: string; readonly hopeful: readonly Way[] } {
  const lowest = ways.map(() => Number.POSITIVE_INFINITY);
  for (let trial = 0; trial < TRIALS; trial++) {
    for (const [i, way] of ways.entries()) {
      if (trial > 1 && (lowest[i] as number) > HOPELESS * Math.min(...lowest)) continue; // the first of a way may be slower than the others
      const begun = performance.now();
      way.run(x);
      lowest[i] = Math.min(lowest[i] as number, performance.now() - begun);
    }
  }
  const least = Math.min(...lowest);
  const best = (ways[lowest.indexOf(least)] as Way).name;
  return { best, hopeful: ways.filter((_, i) => (lowest[i] as number) <= HOPELESS * least) };
}

async function inTurn<A, B>(values: readonly A[], make: (value: A) => Promise<B>): Promise<B[]> {
  const made: B[] = [];
  for (const value of values) made.push(await make(value));
  return made;
}
