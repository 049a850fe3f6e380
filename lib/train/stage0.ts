import * as tf from '@tensorflow/tfjs';
import type { Matrix, Parameters } from '../../layers/parameters';
import { Random } from '../random';
import { COLOURS, GRID_SIDE, PATCH_COUNT, SYMBOLS, TRAINING_SEEDS, VALIDATION_SEEDS } from '../scenes/constants';
import { layoutScene, type SceneLayout } from '../scenes/generate';
import { DecoderModel, Tally } from './decoder_model';
import type { MicroBatch } from './loop';
import { questionBatch } from './questions_batch';
import { WIDTH } from './recipe';

/** Columns of the multi-hot description of a patch: symbol, colour, own row and column, centre's row and column, is it the centre. */
const PARTS: readonly number[] = [SYMBOLS.length + 1, COLOURS.length + 1, GRID_SIDE, GRID_SIDE, GRID_SIDE + 1, GRID_SIDE + 1, 2];
const COLUMNS: number = PARTS.reduce((a, b) => a + b, 0);
const NOISE = 0.2;
/** Patches of a scene in a batch; with the questions they make sequences whose lengths are multiples of 8. */
const COUNTS: readonly number[] = [19, 27, 35, 43, 59, 83, 123];
const EVALUATED_PATCHES = 59;
const IMAGES = 16;
const MICRO = 2;
const EVALUATED = 96;
/** Other scenes than stage 1's. */
const FIRST_SEED = TRAINING_SEEDS.first + 0x10000000;

/**
 * Stage 0: the decoder learns to answer from tokens that say outright what a patch shows, as a language model is trained on text before it meets
 * an encoder. Such scenes need no picture and few tokens, so that it sees a hundred times more questions than an encoder's features would allow.
 */
export class Stage0 {
  cursor = 0;
  private readonly table: Matrix;

  constructor(
    private readonly model: DecoderModel,
    parameters: Parameters,
    private readonly overfit?: number,
  ) {
    this.table = parameters.at('symbolic').matrix('weight', COLUMNS, WIDTH);
  }

  microBatches(): number {
    return MICRO;
  }

  next(): MicroBatch {
    const random = new Random(this.cursor, 6);
    const scenes = Array.from({ length: IMAGES }, () => layoutScene(this.nextSeed()));
    const count = random.pick(COUNTS);
    const described = describe(scenes, count, random);
    const batch = questionBatch(scenes, random);
    const loss = () =>
      tf.tidy(() => {
        const clean = this.table.apply(described);
        return this.model.loss(tf.add(clean, tf.randomNormal(clean.shape, 0, NOISE)), batch);
      });
    return { loss, dispose: () => described.dispose() };
  }

  async evaluate(): Promise<string> {
    const tally = new Tally();
    const first = this.overfit ? FIRST_SEED : VALIDATION_SEEDS.first;
    for (let start = 0; start < Math.min(EVALUATED, this.overfit ?? EVALUATED); start += IMAGES) {
      const random = new Random(start, 7);
      const scenes = Array.from({ length: IMAGES }, (_, i) => layoutScene(first + start + i));
      const described = describe(scenes, EVALUATED_PATCHES, random);
      const visual = this.table.apply(described);
      await this.model.score(visual, questionBatch(scenes, random), tally);
      tf.dispose([described, visual]);
    }
    return tally.summary();
  }

  private nextSeed(): number {
    const seed = FIRST_SEED + (this.overfit ? this.cursor % this.overfit : this.cursor);
    this.cursor++;
    return seed;
  }
}

/** `count` patches of each scene in raster order, described by ones and zeros: [scenes * count, COLUMNS]. Nearly every object keeps its centre. */
function describe(scenes: readonly SceneLayout[], count: number, random: Random): tf.Tensor2D {
  const hot = new Float32Array(scenes.length * count * COLUMNS);
  scenes.forEach(({ patchLabels: labels }, scene) => {
    const boost = random.between(0, 0.8);
    const keys = Float64Array.from({ length: PATCH_COUNT }, (_, p) => {
      if (labels.isCentre[p] === 1 && random.chance(0.97)) return 2 + random.uniform();
      return random.uniform() + (labels.symbol[p] !== 0 ? boost : 0);
    });
    const order = Array.from(keys.keys()).sort((a, b) => (keys[b] as number) - (keys[a] as number));
    Int32Array.from(order.slice(0, count))
      .sort()
      .forEach((p, i) => {
        const isObject = labels.symbol[p] !== 0;
        const values = [
          labels.symbol[p] as number,
          labels.colour[p] as number,
          Math.floor(p / GRID_SIDE),
          p % GRID_SIDE,
          isObject ? (labels.centreRow[p] as number) : GRID_SIDE,
          isObject ? (labels.centreColumn[p] as number) : GRID_SIDE,
          labels.isCentre[p] as number,
        ];
        let at = (scene * count + i) * COLUMNS;
        values.forEach((value, part) => {
          hot[at + value] = 1;
          at += PARTS[part] as number;
        });
      });
  });
  return tf.tensor2d(hot, [scenes.length * count, COLUMNS]);
}
