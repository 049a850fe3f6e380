import * as tf from '@tensorflow/tfjs';
import { StateError } from '../../layers/errors';
import { Random } from '../random';
import { PATCH_COUNT, TRAINING_SEEDS, VALIDATION_SEEDS } from '../scenes/constants';
import { type DecoderModel, Tally } from './decoder_model';
import { encodeScenes, FeatureStore, gatherFeatures, type SeenScene } from './features';
import type { MicroBatch } from './loop';
import { questionBatch } from './questions_batch';
import { PROJECTOR_PATH, WIDTH } from './recipe';
import { describePatches, EVERY_PATCH, randomSubset, SYMBOLIC_COLUMNS } from './symbolic';
import type { VariableSource } from './variables';
import type { VisionModel } from './vision_model';

export interface Stage2Options {
  /** Random subsets of visual tokens as augmentation. */
  readonly subsets: boolean;
  readonly overfit?: number;
}

/** Sizes of random subsets; with the questions they make sequences whose lengths are multiples of 8. */
const COUNTS: readonly number[] = [26, 34, 42, 50, 58, 74, 90, 114, 146, 186];
const ALL_SHARE = 0.2;
const IMAGES = 16;
const IMAGES_WITH_ALL = 8;
const FRESH_SHARE = 0.25;
const CAPACITY = 40_000;
/** Most patches are ground, and all alike. */
const GROUND_WEIGHT = 0.2;
const EVALUATED = 128;
const FIRST_SEED = TRAINING_SEEDS.first + 0x20000000;

/**
 * Stage 2: projector and decoder learn on the frozen encoder's features. First the projector alone learns to say what stage 0's symbolic tokens say
 * (`nextAlignment`), then both learn from answers (`next`).
 */
export class Stage2 {
  cursor = 0;
  private readonly store: FeatureStore;
  private validation: SeenScene[] | undefined;

  constructor(
    private readonly model: DecoderModel,
    private readonly vision: VisionModel,
    private readonly options: Stage2Options,
    /** Stage 0's table, which `nextAlignment` is trained towards. */
    private readonly symbolic: tf.Tensor2D | undefined = undefined,
  ) {
    this.store = new FeatureStore(vision, FIRST_SEED, options.overfit ?? CAPACITY);
  }

  /** The projector alone, by the squared distance to what stage 0's decoder was trained on. */
  async nextAlignment(): Promise<MicroBatch> {
    const { symbolic } = this;
    if (!symbolic) throw new StateError('STAGE_MISSING', "The projector is aligned to stage 0's symbols, which are not here. Run --stage 0 first.");
    const random = new Random(this.cursor++, 8);
    const scenes = await this.store.draw(IMAGES, IMAGES, random);
    const features = gatherFeatures(
      scenes,
      scenes.map(() => EVERY_PATCH),
    );
    const wanted = tf.tidy(() =>
      tf.matMul(
        describePatches(
          scenes.map(({ layout }) => layout),
          scenes.map(() => EVERY_PATCH),
        ),
        symbolic,
      ),
    );
    const objects = scenes.flatMap(({ layout }) => Array.from(layout.patchLabels.symbol, (symbol) => (symbol > 0 ? 1 : GROUND_WEIGHT)));
    const weights = tf.tensor2d(objects, [objects.length, 1]);
    const loss = () => tf.tidy(() => tf.mean(tf.mul(tf.square(tf.sub(this.model.projector.apply(features), wanted)), weights)) as tf.Scalar);
    return { loss, dispose: () => tf.dispose([features, wanted, weights]) };
  }

  async next(): Promise<MicroBatch> {
    const random = new Random(this.cursor++, 9);
    const all = !this.options.subsets || random.chance(ALL_SHARE);
    const images = all ? IMAGES_WITH_ALL : IMAGES;
    const scenes = await this.store.draw(images, images * FRESH_SHARE, random);
    const count = all ? PATCH_COUNT : random.pick(COUNTS);
    const features = gatherFeatures(
      scenes,
      scenes.map(({ layout }) => randomSubset(layout, count, random)),
    );
    const batch = questionBatch(
      scenes.map(({ layout }) => layout),
      random,
    );
    const loss = () => tf.tidy(() => this.model.loss(this.model.projector.apply(features), batch));
    return { loss, dispose: () => features.dispose() };
  }

  async evaluate(): Promise<string> {
    const first = this.options.overfit ? FIRST_SEED : VALIDATION_SEEDS.first;
    const count = Math.min(EVALUATED, this.options.overfit ?? EVALUATED);
    if (!this.validation) {
      this.validation = [];
      for (let i = 0; i < count; i += 8)
        this.validation.push(
          ...(await encodeScenes(
            this.vision,
            Array.from({ length: 8 }, (_, k) => first + i + k),
          )),
        );
    }
    const all = new Tally();
    const some = new Tally();
    for (let start = 0; start < count; start += 8) {
      const scenes = this.validation.slice(start, start + 8);
      const random = new Random(start, 10);
      const batch = questionBatch(
        scenes.map(({ layout }) => layout),
        random,
      );
      for (const [tally, patches] of [
        [all, PATCH_COUNT],
        [some, 59],
      ] as const) {
        const features = gatherFeatures(
          scenes,
          scenes.map(({ layout }) => randomSubset(layout, patches, random)),
        );
        const visual = this.model.projector.apply(features);
        await this.model.score(visual, batch, tally);
        tf.dispose([features, visual]);
      }
    }
    return `all ${all.summary()} | 59 random: ${some.summary()} | scenes ${this.store.size}`;
  }
}

/**
 * Starts the projector's first layer so that it sees features of mean 0 and deviation 1, which features of an encoder never are
 * (the ground's are several times larger than the objects').
 */
export async function standardiseProjector(source: VariableSource, vision: VisionModel): Promise<void> {
  const scenes = await encodeScenes(
    vision,
    Array.from({ length: 32 }, (_, i) => FIRST_SEED + i),
  );
  const moments = tf.tidy(() => {
    const features = gatherFeatures(
      scenes,
      scenes.map(() => EVERY_PATCH),
    );
    const { mean, variance } = tf.moments(features, 0);
    return tf.stack([mean, tf.rsqrt(tf.add(variance, 1e-3))]);
  });
  const values = await moments.data();
  moments.dispose();
  const arrays = await source.export();
  const weight = arrays.get(`${PROJECTOR_PATH}.linear_1.weight`);
  const bias = arrays.get(`${PROJECTOR_PATH}.linear_1.bias`);
  if (!weight || !bias) return;
  for (let out = 0; out < WIDTH; out++) {
    let shift = 0;
    for (let i = 0; i < WIDTH; i++) {
      const scaled = (weight.data[out * WIDTH + i] as number) * (values[WIDTH + i] as number);
      weight.data[out * WIDTH + i] = scaled;
      shift += scaled * (values[i] as number);
    }
    bias.data[out] = -shift;
  }
  source.import(
    new Map([
      [`${PROJECTOR_PATH}.linear_1.weight`, weight],
      [`${PROJECTOR_PATH}.linear_1.bias`, bias],
    ]),
  );
}

/** Stage 0's table, as [columns, D]. */
export function symbolicTable(stored: { readonly shape: readonly number[]; readonly data: Float32Array }): tf.Tensor2D {
  return tf.tidy(() => tf.transpose(tf.tensor2d(stored.data, [WIDTH, SYMBOLIC_COLUMNS])));
}
