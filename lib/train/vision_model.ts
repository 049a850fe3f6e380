import * as tf from '@tensorflow/tfjs';
import { ClipVision } from '../../layers/clip_vision';
import { Linear } from '../../layers/linear';
import { LayerNorm } from '../../layers/norm';
import type { Parameters } from '../../layers/parameters';
import type { Segment } from '../../layers/tap';
import { COLOURS, GRID_SIDE, MAX_OBJECTS, SYMBOLS } from '../scenes/constants';
import { binaryCrossEntropy, crossEntropy, oneHot } from './losses';
import { FEATURE_BLOCK, VISION_PATH, VISION_SHAPE, WIDTH } from './recipe';
import { CLASS_TARGETS, type VisionBatch } from './vision_batch';

const SYMBOL_CLASSES = SYMBOLS.length + 1;
const COLOUR_CLASSES = COLOURS.length + 1;
const PATCH_OUTPUTS = SYMBOL_CLASSES + COLOUR_CLASSES + 2 * GRID_SIDE + 1;
const COUNT_CLASSES = MAX_OBJECTS + 1;
/** Ground is most of an image; at full weight the first thing learned would be to call everything ground. */
const GROUND_WEIGHT = 0.1;

/** One patch of each object is its centre: the decoder counts objects by them. */
const CENTRE_WEIGHT = 3;

interface Scores {
  readonly symbol: tf.Tensor2D;
  readonly colour: tf.Tensor2D;
  readonly row: tf.Tensor2D;
  readonly column: tf.Tensor2D;
  readonly centre: tf.Tensor2D;
}

export interface VisionAccuracy {
  symbol: number;
  colour: number;
  ground: number;
  centreRow: number;
  centreColumn: number;
  isCentre: number;
  count: number;
  pairF1: number;
  /** Share of the class token's attention in the feature block that lies on object patches (only where it was asked for). */
  onObjects: number;
}

/** Heads of stage 1: they are not part of the shipped model. */
class Heads {
  private readonly patchNorm: LayerNorm;
  private readonly patch: Linear;
  private readonly classNorms: readonly LayerNorm[];
  private readonly classes: readonly Linear[];

  constructor(parameters: Parameters) {
    this.patchNorm = new LayerNorm(parameters.at('patch_norm'), WIDTH, 1e-5);
    this.patch = new Linear(parameters.at('patch'), WIDTH, PATCH_OUTPUTS, { bias: true });
    const each = ['feature_block', 'last_block'];
    this.classNorms = each.map(
      (name) => new LayerNorm(name === 'last_block' ? parameters.at('last_norm') : parameters.at('feature_norm'), WIDTH, 1e-5),
    );
    this.classes = each.map((name) => new Linear(parameters.at(name), WIDTH, CLASS_TARGETS + COUNT_CLASSES, { bias: true }));
  }

  patchScores(rows: tf.Tensor2D): Scores {
    const all = this.patch.apply(this.patchNorm.apply(rows));
    const [symbol, colour, row, column, centre] = tf.split(all, [SYMBOL_CLASSES, COLOUR_CLASSES, GRID_SIDE, GRID_SIDE, 1], 1) as tf.Tensor2D[];
    return { symbol, colour, row, column, centre } as Scores;
  }

  classScores(rows: tf.Tensor2D, which: 0 | 1): [tf.Tensor2D, tf.Tensor2D] {
    const all = (this.classes[which] as Linear).apply((this.classNorms[which] as LayerNorm).apply(rows));
    return tf.split(all, [CLASS_TARGETS, COUNT_CLASSES], 1) as [tf.Tensor2D, tf.Tensor2D];
  }
}

/** The encoder with the heads that stage 1 trains it by. */
export class VisionModel {
  readonly encoder: ClipVision;
  private readonly heads: Heads;

  constructor(parameters: Parameters) {
    this.encoder = new ClipVision(
      VISION_PATH.split('.').reduce((scope, name) => scope.at(name), parameters),
      VISION_SHAPE,
    );
    this.heads = new Heads(parameters.at('heads'));
  }

  /**
   * Stage 1's loss, a mean over the crops. `deep` adds the last block (on frozen features: it is only there for CLIP's form) and the loss on
   * where the class token looks; both are dear, so most micro-batches leave them out.
   */
  loss(batch: VisionBatch, deep: boolean): tf.Scalar {
    return tf.tidy(() => {
      const { states, crops, attention } = this.run(batch, deep);
      const [classRows, patchRows] = splitTokens(states, batch);
      let loss = this.patchLoss(patchRows, batch);
      loss = tf.add(loss, this.classLoss(classRows, batch, 0));
      if (deep) {
        const block = this.encoder.blocks[FEATURE_BLOCK + 1];
        const last = block?.apply(frozen(states), crops).hiddenStates;
        if (last) loss = tf.add(loss, this.classLoss(splitTokens(last, batch)[0], batch, 1));
        const look = meanOverHeads(attention);
        const missed = tf.neg(tf.sum(tf.mul(batch.look, tf.log(tf.add(look, 1e-6)))));
        loss = tf.add(loss, tf.mul(missed, 0.5));
      }
      return tf.div(loss, batch.crops) as tf.Scalar;
    });
  }

  async accuracy(batch: VisionBatch): Promise<VisionAccuracy> {
    const values = tf.tidy(() => {
      const { states, attention } = this.run(batch, true);
      const [classRows, patchRows] = splitTokens(states, batch);
      const scores = this.heads.patchScores(patchRows);
      const [present, count] = this.heads.classScores(classRows, 0);
      const objects = tf.sum(batch.isObject);
      const ground = tf.sub(1, batch.isObject);
      const hit = (score: tf.Tensor2D, label: tf.Tensor1D) => tf.cast(tf.equal(tf.argMax(score, 1), label), 'float32');
      const onObjects = (hits: tf.Tensor) => tf.div(tf.sum(tf.mul(hits, batch.isObject)), objects);
      const near = (score: tf.Tensor2D, label: tf.Tensor1D) => tf.cast(tf.lessEqual(tf.abs(tf.sub(tf.argMax(score, 1), label)), 1), 'float32');
      const guess = tf.cast(tf.greater(tf.slice(present, [0, 0], [-1, 64]), 0), 'float32');
      const truth = tf.slice(batch.present, [0, 0], [-1, 64]);
      const found = tf.cast(tf.greater(tf.reshape(scores.centre, [-1]), 0), 'float32');
      const f1 = (a: tf.Tensor, b: tf.Tensor) => tf.div(tf.mul(tf.sum(tf.mul(a, b)), 2), tf.add(tf.sum(a), tf.sum(b)));
      const look = meanOverHeads(attention);
      return tf.stack([
        onObjects(hit(scores.symbol, batch.symbol)),
        onObjects(hit(scores.colour, batch.colour)),
        tf.div(tf.sum(tf.mul(hit(scores.symbol, batch.symbol), ground)), tf.sum(ground)),
        onObjects(near(scores.row, batch.centreRow)),
        onObjects(near(scores.column, batch.centreColumn)),
        f1(found, batch.isCentre),
        tf.mean(hit(count, batch.count)),
        f1(guess, truth),
        tf.div(tf.sum(tf.mul(tf.reshape(look, [-1]), batch.isObject)), batch.crops),
      ]);
    });
    const [symbol, colour, ground, centreRow, centreColumn, isCentre, count, pairF1, onObjects] = Array.from(await values.data());
    values.dispose();
    return { symbol, colour, ground, centreRow, centreColumn, isCentre, count, pairF1, onObjects } as VisionAccuracy;
  }

  /** Features of all patches of scenes given as `allPatchRows` gives them: [scenes * N, C]. */
  features(rows: tf.Tensor2D, scenes: number): tf.Tensor2D {
    return tf.tidy(() => {
      const crops = segmentsOf(scenes, rows.shape[0] / scenes + 1);
      let states = this.encoder.embedPatches(rows, scenes);
      for (const block of this.encoder.blocks.slice(0, FEATURE_BLOCK + 1)) states = block.apply(states, crops).hiddenStates;
      const tokens = tf.reshape(states, [scenes, -1, WIDTH]);
      return tf.reshape(tf.slice(tokens, [0, 1, 0], [-1, -1, -1]), [-1, WIDTH]) as tf.Tensor2D;
    });
  }

  private run(batch: VisionBatch, wantAttention: boolean): { states: tf.Tensor2D; crops: Segment[]; attention: readonly tf.Tensor2D[] } {
    const crops = segmentsOf(batch.crops, batch.patches + 1);
    let states = this.encoder.embedPatches(batch.rows, batch.crops, batch.places);
    let attention: readonly tf.Tensor2D[] = [];
    this.encoder.blocks.slice(0, FEATURE_BLOCK + 1).forEach((block, i) => {
      const output = block.apply(states, crops, { reads: { class: wantAttention && i === FEATURE_BLOCK } });
      states = output.hiddenStates;
      attention = output.values.flatMap(({ class: rows }) => (rows ? [rows] : []));
    });
    return { states, crops, attention };
  }

  private patchLoss(rows: tf.Tensor2D, batch: VisionBatch): tf.Scalar {
    const scores = this.heads.patchScores(rows);
    const column = (values: tf.Tensor1D) => tf.reshape(values, [-1, 1]) as tf.Tensor2D;
    const isObject = column(batch.isObject);
    const weights = tf.add<tf.Tensor2D>(tf.mul(isObject, 1 - GROUND_WEIGHT), GROUND_WEIGHT);
    const classes = tf.add(
      crossEntropy(scores.symbol, oneHot(batch.symbol, SYMBOL_CLASSES), weights),
      crossEntropy(scores.colour, oneHot(batch.colour, COLOUR_CLASSES), weights),
    );
    const centres = tf.add(
      crossEntropy(scores.row, oneHot(batch.centreRow, GRID_SIDE), isObject),
      crossEntropy(scores.column, oneHot(batch.centreColumn, GRID_SIDE), isObject),
    );
    const centre = binaryCrossEntropy(scores.centre, column(batch.isCentre), weights);
    // Sums over patches, scaled so that an image with some forty object patches counts as one.
    return tf.mul(tf.addN([classes, tf.mul(centres, 0.5), tf.mul(centre, CENTRE_WEIGHT)]), 1 / 40) as tf.Scalar;
  }

  private classLoss(rows: tf.Tensor2D, batch: VisionBatch, which: 0 | 1): tf.Scalar {
    const [present, count] = this.heads.classScores(rows, which);
    const every = tf.ones([batch.crops, 1]) as tf.Tensor2D;
    const countLoss = crossEntropy(count, oneHot(batch.count, COUNT_CLASSES), every);
    return tf.add(tf.mul(binaryCrossEntropy(present, batch.present), 0.1), tf.mul(countLoss, 0.3)) as tf.Scalar;
  }
}

function segmentsOf(crops: number, length: number): Segment[] {
  return Array.from({ length: crops }, (_, i) => ({ start: i * length, length }));
}

/** [crops * (1 + n), C] -> the class tokens [crops, C] and the patches [crops * n, C] */
function splitTokens(states: tf.Tensor2D, batch: VisionBatch): [tf.Tensor2D, tf.Tensor2D] {
  const tokens = tf.reshape(states, [batch.crops, batch.patches + 1, WIDTH]);
  const [first, rest] = tf.split(tokens, [1, batch.patches], 1) as [tf.Tensor, tf.Tensor];
  return [tf.reshape(first, [batch.crops, WIDTH]) as tf.Tensor2D, tf.reshape(rest, [-1, WIDTH]) as tf.Tensor2D];
}

/** One [heads, n] a crop -> [crops, n]; disposes what it was given, which the block kept for its caller. */
function meanOverHeads(attention: readonly tf.Tensor2D[]): tf.Tensor2D {
  const mean = tf.mean(tf.stack([...attention]), 1) as tf.Tensor2D;
  tf.dispose([...attention]);
  return mean;
}

/** The same values, through which no gradient passes. */
function frozen(x: tf.Tensor2D): tf.Tensor2D {
  const stop = tf.customGrad((value) => ({ value: tf.clone(value as tf.Tensor), gradFunc: (dy: tf.Tensor) => tf.zerosLike(dy) }));
  return stop(x) as tf.Tensor2D;
}
