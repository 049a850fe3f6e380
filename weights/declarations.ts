import type * as tf from '@tensorflow/tfjs';
import { StateError } from '../layers/errors';
import type { Embedding, Matrix, Parameter, Parameters } from '../layers/parameters';

/** One thing that a layer declared, and that a source fills later. */
export interface Declaration {
  readonly kind: 'tensor' | 'matrix' | 'embedding';
  readonly name: string;
  /** As the checkpoint holds it: a matrix is [out, in], an embedding [rows, dim]. */
  readonly shape: readonly number[];
  /** An embedding that serves as the language model's head too. */
  readonly head?: boolean;
}

/** What a source puts in place of a declaration, by its kind. */
export interface Filled {
  tensor: tf.Tensor;
  matrix: Matrix;
  embedding: Embedding;
}

/** The declarations of one model, in the order in which its layers made them, and what they were filled with. */
export class Declarations {
  private readonly slots = new Map<string, Slot>();
  private state: 'empty' | 'filled' | 'disposed' = 'empty';

  /** Where layers declare. */
  readonly root: Parameters = new Scope(this, '');

  get all(): readonly Declaration[] {
    return [...this.slots.values()];
  }

  /**
   * Declares, or returns what was declared under the name before in the same form: two layers may share a weight.
   * @throws StateError `DECLARED_DIFFERENTLY`, `ALREADY_FILLED`
   */
  declare<K extends Declaration['kind']>(kind: K, name: string, shape: readonly number[], head = false): Slot<K> {
    const before = this.slots.get(name);
    if (before) {
      if (before.kind === kind && before.shape.join() === shape.join()) return before as Slot<K>;
      throw new StateError(
        'DECLARED_DIFFERENTLY',
        `"${name}" was declared as ${before.kind} [${before.shape.join(', ')}], and now as ${kind} [${shape.join(', ')}]. One of the two layers is wrong.`,
      );
    }
    if (this.state !== 'empty')
      throw new StateError('ALREADY_FILLED', `"${name}" was declared after the parameters were filled. Build every layer before fill().`);
    const slot = new Slot(kind, name, shape, head);
    this.slots.set(name, slot);
    return slot;
  }

  /** @throws StateError when it can't be filled (again) */
  checkEmpty(): void {
    if (this.state === 'filled')
      throw new StateError('ALREADY_FILLED', 'The parameters were filled before. Make a new source to fill them with something else.');
    if (this.state === 'disposed') throw new StateError('DISPOSED', 'The parameters were disposed. Make a new source.');
  }

  /** Fills what was declared under the name; it belongs to the declarations from then on. */
  put<K extends Declaration['kind']>(kind: K, name: string, value: Filled[K]): void {
    const slot = this.slots.get(name);
    if (slot?.kind !== kind) throw new StateError('NOT_DECLARED', `No ${kind} "${name}" was declared.`);
    (slot as Slot<K>).content = value;
  }

  markFilled(): void {
    this.state = 'filled';
  }

  /** Frees what was filled so far; the source can be filled again. */
  empty(): void {
    for (const slot of this.slots.values()) slot.clear('empty');
    this.state = 'empty';
  }

  /** Idempotent. */
  dispose(): void {
    for (const slot of this.slots.values()) slot.clear('disposed');
    this.state = 'disposed';
  }
}

class Slot<K extends Declaration['kind'] = Declaration['kind']> implements Declaration {
  content: Filled[K] | undefined;
  private disposed = false;

  constructor(
    readonly kind: K,
    readonly name: string,
    readonly shape: readonly number[],
    readonly head: boolean,
  ) {}

  /** @throws StateError `NOT_FILLED`, `DISPOSED` */
  get value(): Filled[K] {
    if (this.content) return this.content;
    if (this.disposed) throw new StateError('DISPOSED', `Parameter "${this.name}" was disposed with its model. Load it again.`);
    throw new StateError('NOT_FILLED', `Parameter "${this.name}" has no value yet. Wait for the source's fill() before the layer is used.`);
  }

  clear(to: 'empty' | 'disposed'): void {
    this.content?.dispose();
    this.content = undefined;
    this.disposed = to === 'disposed';
  }
}

class Scope implements Parameters {
  constructor(
    private readonly declarations: Declarations,
    readonly path: string,
  ) {}

  at(name: string): Parameters {
    return new Scope(this.declarations, this.full(name));
  }

  tensor(name: string, shape: readonly number[]): Parameter {
    return this.declarations.declare('tensor', this.full(name), shape);
  }

  matrix(name: string, inDim: number, outDim: number): Matrix {
    const slot = this.declarations.declare('matrix', this.full(name), [outDim, inDim]);
    return {
      name: slot.name,
      inDim,
      outDim,
      apply: (rows) => slot.value.apply(rows),
      get held() {
        return slot.value.held;
      },
      dispose: () => slot.clear('disposed'),
    };
  }

  embedding(name: string, rows: number, dim: number, options: { readonly head?: boolean } = {}): Embedding {
    const slot = this.declarations.declare('embedding', this.full(name), [rows, dim], options.head);
    return {
      name: slot.name,
      rows,
      dim,
      lookup: (ids) => slot.value.lookup(ids),
      project: (x) => slot.value.project(x),
      dispose: () => slot.clear('disposed'),
    };
  }

  private full(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`;
  }
}
