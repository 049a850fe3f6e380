import * as tf from '@tensorflow/tfjs';
import { CropView, disposeEncoded, type EncodedCrop } from '../../../lib/encoded';
import type { PreparedImage } from '../../../lib/image/types';
import { Llava } from '../../../lib/llava';
import { Pacer } from '../../../lib/pacer';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { expectClose } from '../../support/compare';
import { disposeImages, fixtureConfig, fixtureImages } from '../../support/fixture_model';
import { HeldParameters } from '../../support/held_parameters';
import { RecordedFile, readJson } from '../../support/recorded';

const DIRECTORY = 'methods/encoder';

/** What `make/make_encoder_methods.py` worked out for one image. */
export interface EncoderCase {
  /** Of the tokens in the fixture, [T, C]. */
  readonly name: string;
  readonly image: number;
  readonly options: PruneOptions;
  /** The patches in each token, in order: first the one that it stands for, or -1. */
  readonly members: readonly (readonly number[])[];
}

export function casesOf(method: PruneOptions['method']): (readonly [string, EncoderCase])[] {
  const all = readJson<readonly EncoderCase[]>(DIRECTORY, 'cases.json').filter(({ options }) => options.method === method);
  if (all.length === 0) throw new Error(`Nothing is recorded of ${method}.`);
  return all.map((one) => [`image ${one.image}, ${JSON.stringify(one.options)}`, one]);
}

/** The small CLIP of the fixture with its two images. Dispose it. */
export class EncoderFixture {
  readonly llava: Llava;
  private readonly weights = new RecordedFile(DIRECTORY, 'model.safetensors');
  private readonly recorded = new RecordedFile(DIRECTORY, 'reference.safetensors');
  private readonly root = new HeldParameters((name) => this.weights.get(name));
  private readonly images: readonly PreparedImage[];

  constructor(override: { readonly [key: string]: unknown } = {}) {
    this.llava = new Llava(fixtureConfig(DIRECTORY, override), this.root);
    this.images = fixtureImages(DIRECTORY, 2);
  }

  dispose(): void {
    disposeImages(this.images);
    this.root.dispose();
  }

  /** Both images encoded for a method, and what it makes of one of them. Free the tokens. */
  async tokensOf(options: PruneOptions, image: number): Promise<{ readonly members: number[][]; readonly tokens: tf.Tensor2D }> {
    const { llava } = this;
    const pruner = createPruner(options);
    const encoded = await llava.encode(this.images, [pruner.needs(llava.encoder)], { pacer: new Pacer() });
    const refuse = (): never => {
      throw new Error('asked for the text or the projector');
    };
    const context = { textIds: new Int32Array(0), embed: refuse, project: refuse, pause: () => Promise.resolve() };
    const { grid, crops } = encoded[image]!;
    const crop = crops[0] as EncodedCrop;
    const view = new CropView(image, 0, grid, crop, context);
    const patches = grid.rows * grid.columns;
    const run = pruner.begin({ encoder: llava.encoder, decoderBlocks: 1, patchesPerCrop: [patches, patches], grids: [grid, grid] });
    try {
      const selection = await run.select?.(view);
      if (selection?.merged) return { members: selection.merged.members.map((one) => [...one]), tokens: selection.merged.tokens };
      const rows = selection ? [...selection.kept] : Array.from({ length: crop.features.shape[0] }, (_, row) => row);
      const tokens = tf.tidy(() => tf.gather(crop.features, tf.tensor1d(rows, 'int32')));
      return { members: rows.map((row) => [...(crop.members?.[row] ?? [row])]), tokens };
    } finally {
      run.dispose();
      view.dispose();
      disposeEncoded(encoded);
    }
  }

  /** Fails unless the method makes the recorded tokens of the recorded patches, and leaves no tensor behind. */
  async expectRecorded({ name, image, options, members }: EncoderCase): Promise<void> {
    const before = tf.memory().numTensors;
    const made = await this.tokensOf(options, image);
    try {
      expect(made.members).toEqual(members);
      await expectClose(made.tokens, this.recorded.get(name), name, 1e-5);
    } finally {
      made.tokens.dispose();
    }
    expect(tf.memory().numTensors).toBe(before);
  }
}
