import * as tf from '@tensorflow/tfjs';
import { ClipVision, disposeVisionValues, type VisionReads } from '../../layers/clip_vision';
import type { Tap } from '../../layers/tap';
import type { VisionLanguageConfig } from '../../lib/config';
import { disposeEncoded } from '../../lib/encoded';
import { type EncodedRows, runEncoder } from '../../lib/encoder';
import { Llava } from '../../lib/llava';
import { Pacer } from '../../lib/pacer';
import type { EncoderReducer, EncoderView, RowGroups } from '../../lib/prune/merging';
import { createPruner, type PruneOptions } from '../../lib/prune/registry';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { expectClose } from '../support/compare';
import { disposeImages, fixtureConfig, fixtureImages } from '../support/fixture_model';
import { HeldParameters } from '../support/held_parameters';
import { type Recorded, RecordedFile } from '../support/recorded';

const DIRECTORY = 'methods/encoder';
const CONFIG = fixtureConfig(DIRECTORY) as VisionLanguageConfig;
const { image_size: SIZE, patch_size: PATCH, num_hidden_layers: BLOCKS } = CONFIG.vision_config;
const ACROSS = SIZE / PATCH;
const PATCHES = ACROSS * ACROSS;
/** Patches of the same pixels and the same position embedding: the encoder can't tell them apart. */
const TWINS = [3, 7, 20] as const;

type Hook = 'afterAttention' | 'afterBlock';

const weights = new RecordedFile(DIRECTORY, 'model.safetensors');

function withTwins(name: string): Recorded {
  const recorded = weights.get(name);
  if (!name.endsWith('position_embedding.weight')) return recorded;
  const values = recorded.values.slice();
  const width = recorded.shape[1]!;
  for (const twin of TWINS) values.copyWithin((1 + twin) * width, (1 + TWINS[0]) * width, (2 + TWINS[0]) * width);
  return { shape: recorded.shape, values };
}

/** Pixels [crops, H, W, 3] of the fixture's images, with the twins' patches made alike. */
function twinPixels(): tf.Tensor4D {
  const images = fixtureImages(DIRECTORY, 2);
  const parts = images.map(({ pixelValues }) => {
    const values = pixelValues.dataSync().slice();
    const at = (patch: number, row: number) => (((Math.floor(patch / ACROSS) * PATCH + row) * SIZE + (patch % ACROSS) * PATCH) * 3) | 0;
    for (const twin of TWINS) {
      for (let row = 0; row < PATCH; row++) values.copyWithin(at(twin, row), at(TWINS[0], row), at(TWINS[0], row) + PATCH * 3);
    }
    return tf.tensor4d(values, pixelValues.shape);
  });
  disposeImages(images);
  const pixels = tf.concat(parts, 0);
  tf.dispose(parts);
  return pixels;
}

/** Makes one row of the given patches, in the place of the first of them; all other rows stay. */
function together(view: EncoderView, patches: readonly number[]): RowGroups {
  const group = new Int32Array(view.members.length);
  let rows = 0;
  let target = -1;
  for (const [row, members] of view.members.entries()) {
    const isTwin = members.some((patch) => patches.includes(patch));
    if (isTwin && target >= 0) group[row] = target;
    else {
      group[row] = rows++;
      if (isTwin) target = group[row];
    }
  }
  return { group, rows };
}

/** Keeps the rows for which `stays` holds. */
function only(view: EncoderView, stays: (row: number) => boolean): RowGroups {
  let rows = 0;
  return { group: Int32Array.from(view.members, (_, row) => (stays(row) ? rows++ : -1)), rows };
}

/** A reducer that acts at one hook, in the blocks that have a function. */
function reducerAt(hook: Hook, blocks: { readonly [block: number]: (view: EncoderView) => RowGroups | undefined }, weighted = true): EncoderReducer {
  return { key: 'test', weighted, [hook]: (view: EncoderView) => Promise.resolve(blocks[view.block]?.(view)) };
}

describe.each(BACKENDS)('merging inside the encoder, on %s', (backend) => {
  let root: HeldParameters;
  let vision: ClipVision;
  let pixels: tf.Tensor4D;
  let before: number;

  beforeAll(async () => {
    await useBackend(backend);
    root = new HeldParameters(withTwins);
    vision = new ClipVision(root.at('vision_tower'), CONFIG.vision_config);
    pixels = twinPixels();
  });
  beforeEach(() => {
    before = tf.memory().numTensors;
  });
  afterEach(() => expect(tf.memory().numTensors).toBe(before));
  afterAll(() => {
    root.dispose();
    pixels.dispose();
  });

  /** The last block's rows of some crops. */
  async function encode(
    reducer: EncoderReducer | undefined,
    { crops = [0], reads = new Map<number, VisionReads>(), tap }: { crops?: readonly number[]; reads?: Map<number, VisionReads>; tap?: Tap } = {},
  ): Promise<EncodedRows> {
    const chosen = tf.tidy(() => tf.gather(pixels, tf.tensor1d([...crops], 'int32')));
    try {
      const wants = { blocks: BLOCKS, featureBlock: BLOCKS - 1, reads, ...(reducer ? { reducer } : {}) };
      return await runEncoder(vision, [chosen], wants, { pacer: new Pacer(), ...(tap ? { tap } : {}) });
    } finally {
      chosen.dispose();
    }
  }

  function free({ states, values }: EncodedRows): void {
    states.dispose();
    for (const one of values.values()) disposeVisionValues(one);
  }

  /** Fails unless the rows are those of the plain encoder at these patches (and the class token). */
  async function expectRowsOf(actual: EncodedRows, plain: EncodedRows, patches: readonly number[], tolerance = 1e-5): Promise<void> {
    const rows = tf.tidy(() => tf.gather(plain.states, tf.tensor1d([0, ...patches.map((patch) => 1 + patch)], 'int32')));
    try {
      await expectClose(actual.states, rows, 'rows', tolerance);
    } finally {
      rows.dispose();
    }
  }

  const all = Array.from({ length: PATCHES }, (_, patch) => patch);
  const withoutTwins = all.filter((patch) => patch === TWINS[0] || !TWINS.includes(patch as never));

  it.each([
    ['nothing', () => undefined],
    ['every row by itself', (view: EncoderView) => only(view, () => true)],
  ])('of %s changes nothing', async (_what, groups) => {
    const plain = await encode(undefined);
    for (const hook of ['afterAttention', 'afterBlock'] as const) {
      const same = await encode(reducerAt(hook, Object.fromEntries(Array.from({ length: BLOCKS }, (_, k) => [k, groups]))));
      await expectRowsOf(same, plain, all, 1e-6);
      expect(same.members?.[0]).toEqual(all.map((patch) => Int32Array.of(patch)));
      free(same);
    }
    free(plain);
  });

  it.each([
    ['at once, behind the first attention', 'afterAttention', { 0: (view: EncoderView) => together(view, TWINS) }],
    ['at once, behind a block', 'afterBlock', { 1: (view: EncoderView) => together(view, TWINS) }],
    [
      'one after another',
      'afterAttention',
      { 1: (view: EncoderView) => together(view, TWINS.slice(0, 2)), 3: (view: EncoderView) => together(view, TWINS) },
    ],
  ] as const)('of patches that are the same, %s, changes no other row, since later blocks count them as often', async (_how, hook, blocks) => {
    const plain = await encode(undefined);
    const merged = await encode(reducerAt(hook, blocks));
    await expectRowsOf(merged, plain, withoutTwins);
    expect(merged.members?.[0]?.[TWINS[0]]).toEqual(Int32Array.from(TWINS));
    expect(merged.members?.[0]).toHaveLength(PATCHES - 2);
    expect(merged.crops).toEqual([{ start: 0, length: PATCHES - 1 }]);
    const unweighted = await encode(reducerAt(hook, blocks, false));
    await expect(expectRowsOf(unweighted, plain, withoutTwins)).rejects.toThrow('differ');
    for (const one of [plain, merged, unweighted]) free(one);
  });

  it('gives the merged row the attention of all its patches, and keys of the rows that are left', async () => {
    const reads = new Map([[3, { class: true, projections: true }]]);
    const plain = await encode(undefined, { reads });
    const merged = await encode(reducerAt('afterBlock', { 0: (view) => together(view, TWINS) }), { reads });
    const [{ class: whole }] = plain.values.get(3) as [{ class: tf.Tensor2D }];
    const [{ class: part, keys }] = merged.values.get(3) as [{ class: tf.Tensor2D; keys: tf.Tensor2D }];
    const summed = tf.tidy(() => {
      const weightsOf = (patch: number) => all.map((other) => (other === patch || (patch === TWINS[0] && TWINS.includes(other as never)) ? 1 : 0));
      return tf.matMul(whole, tf.transpose(tf.tensor2d(withoutTwins.map(weightsOf))));
    });
    await expectClose(part, summed, 'attention', 1e-5);
    expect(keys.shape).toEqual([PATCHES - 1, CONFIG.vision_config.hidden_size]);
    summed.dispose();
    free(plain);
    free(merged);
  });

  it.each([
    ['afterAttention', 1],
    ['afterBlock', 2],
  ] as const)('that drops rows (%s of block %i) is as hiding them from the blocks that follow', async (hook, at) => {
    const stays = (row: number) => row % 3 !== 1;
    const dropped = await encode(reducerAt(hook, { [at]: (view) => only(view, stays) }));
    const hidden = tf.tidy(() => {
      const bias = tf.tensor2d([0, ...all.map((patch) => (stays(patch) ? 0 : -1e9))], [1, 1 + PATCHES]);
      let states = vision.embed(tf.slice(pixels, [0, 0, 0, 0], [1, -1, -1, -1]));
      for (const [k, block] of vision.blocks.entries()) states = block.apply(states, vision.segments(1), k > at ? { bias } : {}).hiddenStates;
      return states;
    });
    const whole = { states: hidden, crops: [], values: new Map() };
    await expectRowsOf(dropped, whole, all.filter(stays));
    expect(dropped.members?.[0]).toEqual(all.filter(stays).map((patch) => Int32Array.of(patch)));
    free(dropped);
    hidden.dispose();
  });

  /** Drops the rows whose first key is above the average, in blocks 1 and 3: another number of each crop. */
  const byKeys: EncoderReducer = {
    key: 'by keys',
    weighted: true,
    async afterAttention(view) {
      if (view.block % 2 === 0 || view.block === 5) return undefined;
      const keys = await view.keys.data();
      const first = view.members.map((_, row) => keys[(1 + row) * view.keys.shape[1]]!);
      const average = first.reduce((sum, one) => sum + one, 0) / first.length;
      return only(view, (row) => first[row]! <= average);
    },
  };

  it('of two crops together gives each what it gets alone, also where they are left with rows of another number', async () => {
    const both = await encode(byKeys, { crops: [0, 1] });
    expect(both.crops[0]!.length).not.toBe(both.crops[1]!.length);
    for (const crop of [0, 1]) {
      const alone = await encode(byKeys, { crops: [crop] });
      const { start, length } = both.crops[crop]!;
      const rows = tf.slice(both.states, [start, 0], [length, -1]);
      await expectClose(rows, alone.states, `crop ${crop}`, 1e-5);
      expect(both.members?.[crop]).toEqual(alone.members?.[0]);
      rows.dispose();
      free(alone);
    }
    free(both);
  });

  it('merges in one crop and leaves the other as it is', async () => {
    let asked = 0;
    const reducer: EncoderReducer = {
      key: 'first',
      weighted: true,
      afterBlock: (view) => Promise.resolve(view.block === 1 && asked++ === 0 ? together(view, TWINS) : undefined),
    };
    const both = await encode(reducer, { crops: [0, 1] });
    expect(both.crops.map(({ length }) => length)).toEqual([PATCHES - 1, PATCHES + 1]);
    const plain = await encode(undefined, { crops: [1] });
    const { start, length } = both.crops[1]!;
    const rows = tf.slice(both.states, [start, 0], [length, -1]);
    await expectClose(rows, plain.states, 'the other crop', 1e-5);
    rows.dispose();
    free(both);
    free(plain);
  });

  it('shows a tap the rows that are there, and gives the same with it', async () => {
    const shapes = new Map<string, number[]>();
    const tap: Tap = (name, value) => void shapes.set(name, value.shape);
    const reducer = reducerAt('afterAttention', { 1: (view) => together(view, TWINS), 3: (view) => only(view, (row) => row < 10) });
    const tapped = await encode(reducer, { tap });
    const plain = await encode(reducer);
    await expectClose(tapped.states, plain.states, 'rows', 1e-6);
    const rowsOf = (name: string) => shapes.get(`vision_tower.encoder.layers.${name}`)?.at(-2);
    expect([rowsOf('0'), rowsOf('1.self_attn'), rowsOf('1.mlp'), rowsOf('2.self_attn'), rowsOf('3.mlp'), rowsOf('5')]).toEqual([
      PATCHES + 1,
      PATCHES + 1,
      PATCHES - 1,
      PATCHES - 1,
      11,
      11,
    ]);
    expect(shapes.get('vision_tower.encoder.layers.2.self_attn#probabilities')).toEqual([4, PATCHES - 1, PATCHES - 1]);
    free(tapped);
    free(plain);
  });

  it.each([
    ['too few rows', (): RowGroups => ({ group: new Int32Array(PATCHES - 1), rows: 1 }), /grouped 35 rows of 36 into 1/],
    ['a row that there is not', (): RowGroups => ({ group: new Int32Array(PATCHES).fill(1), rows: 1 }), /put row 0 into row 1 of 1/],
    ['less than -1', (): RowGroups => ({ group: new Int32Array(PATCHES).fill(-2), rows: 1 }), /put row 0 into row -2/],
    ['a row of nothing', (): RowGroups => ({ group: new Int32Array(PATCHES), rows: 2 }), /row 1 has none/],
  ])('refuses %s, and frees what it made', async (_what, groups, message) => {
    for (const hook of ['afterAttention', 'afterBlock'] as const) {
      const run = encode(reducerAt(hook, { 2: groups }), { crops: [0, 1], reads: new Map([[1, { class: true }]]) });
      await expect(run).rejects.toMatchObject({ name: 'PruneError', code: 'BAD_REDUCTION', message: expect.stringMatching(message) });
    }
  });

  it.each(['afterAttention', 'afterBlock'] as const)('frees everything when a reducer throws in %s of the second crop', async (hook) => {
    let asked = 0;
    const reducer: EncoderReducer = {
      key: 'thrower',
      weighted: true,
      async [hook](view: EncoderView): Promise<RowGroups | undefined> {
        if (view.block === 2 && asked++ === 1) throw new Error('thrown by the reducer');
        return together(view, TWINS);
      },
    };
    await expect(encode(reducer, { crops: [0, 1], reads: new Map([[0, { received: true }]]) })).rejects.toThrow('thrown by the reducer');
  });
});

describe('encodings of methods that merge inside the encoder', () => {
  const toMe: PruneOptions = { method: 'tome', tokens: 12 };
  let root: HeldParameters;
  let llava: Llava;

  beforeAll(async () => {
    await useBackend('cpu');
    root = new HeldParameters((name) => weights.get(name));
    llava = new Llava(fixtureConfig(DIRECTORY), root);
  });
  afterAll(() => root.dispose());

  async function encodedFor<T>(options: readonly PruneOptions[], use: (images: Awaited<ReturnType<Llava['encode']>>) => Promise<T>): Promise<T> {
    const images = fixtureImages(DIRECTORY, 1);
    try {
      const needs = options.map((one) => createPruner(one).needs(llava.encoder));
      const encoded = await llava.encode(images, needs, { pacer: new Pacer() });
      try {
        return await use(encoded);
      } finally {
        disposeEncoded(encoded);
      }
    } finally {
      disposeImages(images);
    }
  }

  const prefill = (images: Awaited<ReturnType<Llava['encode']>>, options: PruneOptions) =>
    llava.prefill([{ inputIds: Int32Array.of(1, 15, 4), images }], { pruner: createPruner(options), pacer: new Pacer(), lastRows: true });

  it('serve no other method, in either direction, and no other budget', async () => {
    const refused = expect.objectContaining({ name: 'PruneError', code: 'ENCODED_FOR_ANOTHER' });
    await withoutLeaks(async () => {
      await encodedFor([toMe], (images) => expect(prefill(images, { method: 'none' })).rejects.toEqual(refused));
      await encodedFor([toMe], (images) => expect(prefill(images, { method: 'tome', tokens: 13 })).rejects.toEqual(refused));
      await encodedFor([{ method: 'none' }], (images) => expect(prefill(images, toMe)).rejects.toEqual(refused));
    });
  });

  it('can not be made for two methods at once, unless they merge alike', async () => {
    const two = encodedFor([{ method: 'vispruner', tokens: 4 }, toMe], () => Promise.resolve());
    await expect(two).rejects.toMatchObject({ name: 'PruneError', code: 'TWO_ENCODINGS', message: expect.stringContaining('tome 12 constant') });
    await encodedFor([toMe, toMe], () => Promise.resolve());
  });

  it('tell the patches in every token, each patch once', async () => {
    const { visual, tokens } = await encodedFor([toMe], async (images) => {
      const { result, prompts } = await prefill(images, toMe);
      const [prompt] = prompts;
      result.states.dispose();
      prompt!.release();
      return { visual: prompt!.visual[0]!, tokens: result.enteringTokens[0] };
    });
    expect(visual.tokens).toBe(12);
    expect(tokens).toEqual([12]);
    expect(visual.members).toHaveLength(12);
    expect(visual.members!.flatMap((one) => [...one]).sort((a, b) => a - b)).toEqual(Array.from({ length: PATCHES }, (_, patch) => patch));
    expect([...visual.kept]).toEqual([...visual.kept].sort((a, b) => a - b));
  });
});

describe('the class token', () => {
  let root: HeldParameters;
  beforeAll(async () => {
    await useBackend('cpu');
    root = new HeldParameters((name) => weights.get(name));
  });
  afterAll(() => root.dispose());

  /** Visual tokens of one image, and the prompt's last state, by a method that shares its encoding with others. */
  async function asked(strategy: 'default' | 'full', prune: PruneOptions, others: readonly PruneOptions[] = []) {
    const llava = new Llava(fixtureConfig(DIRECTORY, { vision_feature_select_strategy: strategy }), root);
    const images = fixtureImages(DIRECTORY, 1);
    const needs = [prune, ...others].map((one) => createPruner(one).needs(llava.encoder));
    const encoded = await llava.encode(images, needs, { pacer: new Pacer() });
    disposeImages(images);
    const request = { inputIds: Int32Array.of(1, 15, 4), images: encoded };
    const { result, prompts } = await llava.prefill([request], { pruner: createPruner(prune), pacer: new Pacer(), lastRows: true });
    disposeEncoded(encoded);
    const [prompt] = prompts;
    const facts = { tokens: prompt!.visual[0]!.tokens, entering: result.enteringTokens[0]![0], length: prompt!.sequence.length };
    prompt!.release();
    return { ...facts, states: result.states };
  }

  it('that one method asks for does not enter the decoder for another', async () => {
    const plain: PruneOptions = { method: 'vispruner', tokens: 9 };
    const alone = await asked('default', plain);
    const shared = await asked('default', plain, [{ method: 'visionzip', tokens: 9 }]);
    expect([shared.tokens, shared.entering, shared.length]).toEqual([9, 9, 11]);
    await expectClose(shared.states, alone.states, 'last state', 0);
    tf.dispose([shared.states, alone.states]);
  });

  it.each([
    ['default', 9],
    ['full', 10],
  ] as const)('stands once before merged tokens (%s): %i rows', async (strategy, rows) => {
    const one = await asked(strategy, { method: 'visionzip', tokens: 9 });
    const pooled = await asked(strategy, { method: 'pool', window: 2 });
    expect([one.tokens, one.length]).toEqual([rows, rows + 2]);
    expect([pooled.tokens, pooled.length]).toEqual([rows, rows + 2]);
    tf.dispose([one.states, pooled.states]);
  });

  it('is refused to a method that did not say that it reads it', async () => {
    const llava = new Llava(fixtureConfig(DIRECTORY), root);
    const images = fixtureImages(DIRECTORY, 1);
    const pruner = createPruner({ method: 'visionzip', tokens: 1, contextual: 0 });
    const { attention } = pruner.needs(llava.encoder);
    const [encoded] = await llava.encode(images, [{ attention }], { pacer: new Pacer() });
    disposeImages(images);
    const reads = { ...pruner, needs: () => ({ attention }) };
    const pass = llava.prefill([{ inputIds: Int32Array.of(1, 15, 4), images: [encoded!] }], { pruner: reads, pacer: new Pacer() });
    await expect(pass).rejects.toMatchObject({
      name: 'PruneError',
      code: 'ATTENTION_UNAVAILABLE',
      message: expect.stringMatching(/^the class token was not computed/),
    });
    disposeEncoded([encoded!]);
  });
});
