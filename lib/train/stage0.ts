import * as tf from '@tensorflow/tfjs';
import type { Matrix, Parameters } from '../../layers/parameters';
import { Random } from '../random';
import { TRAINING_SEEDS, VALIDATION_SEEDS } from '../scenes/constants';
import { layoutScene } from '../scenes/generate';
import { type DecoderModel, Tally } from './decoder_model';
import type { MicroBatch } from './loop';
import { questionBatch } from './questions_batch';
import { WIDTH } from './recipe';
import { describePatches, randomSubset, SYMBOLIC_COLUMNS } from './symbolic';

const NOISE = 0.2;
/** Patches of a scene in a batch; with the questions they make sequences whose lengths are multiples of 8. */
const COUNTS: readonly number[] = [18, 26, 34, 42, 58, 82, 122];
/** Nearly every object keeps a patch that shows it: a question about one that is not there teaches nothing. */
const KEPT_CENTRES = 0.97;
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
    this.table = parameters.at('symbolic').matrix('weight', SYMBOLIC_COLUMNS, WIDTH);
  }

  microBatches(): number {
    return MICRO;
  }

  next(): MicroBatch {
    const random = new Random(this.cursor, 6);
    const scenes = Array.from({ length: IMAGES }, () => layoutScene(this.nextSeed()));
    const count = random.pick(COUNTS);
    const described = describePatches(
      scenes,
      scenes.map((scene) => randomSubset(scene, count, random, KEPT_CENTRES)),
    );
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
      const described = describePatches(
        scenes,
        scenes.map((scene) => randomSubset(scene, EVALUATED_PATCHES, random, KEPT_CENTRES)),
      );
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
