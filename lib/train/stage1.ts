import * as tf from '@tensorflow/tfjs';
import { Random } from '../random';
import { PATCH_COUNT, TRAINING_SEEDS, VALIDATION_SEEDS } from '../scenes/constants';
import { generateScene } from '../scenes/generate';
import type { AdamW } from './adamw';
import type { MicroBatch } from './loop';
import { visionBatch } from './vision_batch';
import type { VisionModel } from './vision_model';

export interface Stage1Options {
  /** Train on the first so many scenes only: a check that the code can learn at all. */
  readonly overfit?: number;
}

/** Patches a crop and crops a micro-batch, by how far the run is: most steps see few patches, the last all but one (257 tokens are an unlucky size). */
const LENGTHS: readonly { readonly until: number; readonly patches: number; readonly crops: number; readonly micro: number }[] = [
  { until: 0.4, patches: 79, crops: 16, micro: 4 },
  { until: 0.65, patches: 127, crops: 16, micro: 3 },
  { until: Number.POSITIVE_INFINITY, patches: PATCH_COUNT - 1, crops: 8, micro: 4 },
];
const DEEP_EVERY = 4;
const EVALUATED = 128;

/**
 * Stage 1: the encoder learns to see. Every patch says which symbol, colour and centre its object has; the class token says what is in the scene
 * and where. Pixels are fresh in every step.
 */
export class Stage1 {
  cursor = 0;
  private batches = 0;

  constructor(
    private readonly model: VisionModel,
    readonly optimizer: AdamW,
    private readonly options: Stage1Options = {},
  ) {}

  microBatches(progress: number): number {
    return this.length(progress).micro;
  }

  next(progress: number): MicroBatch {
    const { patches, crops } = this.length(progress);
    const scenes = Array.from({ length: crops }, () => generateScene(this.nextSeed()));
    const batch = visionBatch(scenes, new Random(this.cursor, 5), patches);
    const deep = this.batches++ % DEEP_EVERY === 0;
    return { loss: () => this.model.loss(batch, deep), dispose: () => disposeBatch(batch) };
  }

  async evaluate(): Promise<string> {
    const first = this.options.overfit ? TRAINING_SEEDS.first : VALIDATION_SEEDS.first;
    const total: Record<string, number> = {};
    const count = Math.min(this.options.overfit ?? EVALUATED, EVALUATED);
    const crops = 16;
    for (let start = 0; start < count; start += crops) {
      const scenes = Array.from({ length: crops }, (_, i) => generateScene(first + start + i));
      const batch = visionBatch(scenes, new Random(1), PATCH_COUNT);
      for (const [key, value] of Object.entries(await this.model.accuracy(batch))) total[key] = (total[key] ?? 0) + (value * crops) / count;
      disposeBatch(batch);
    }
    return Object.entries(total)
      .map(([key, value]) => `${key} ${value.toFixed(3)}`)
      .join(' ');
  }

  private length(progress: number): (typeof LENGTHS)[number] {
    return LENGTHS.find(({ until }) => progress < until) as (typeof LENGTHS)[number];
  }

  private nextSeed(): number {
    const seed = TRAINING_SEEDS.first + (this.options.overfit ? this.cursor % this.options.overfit : this.cursor);
    this.cursor++;
    return seed;
  }
}

function disposeBatch(batch: object): void {
  for (const value of Object.values(batch)) if (value instanceof tf.Tensor) value.dispose();
}
