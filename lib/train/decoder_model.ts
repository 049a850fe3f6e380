import * as tf from '@tensorflow/tfjs';
import { Llama, type LlamaShape } from '../../layers/llama';
import type { Parameters } from '../../layers/parameters';
import { Projector } from '../../layers/projector';
import type { RotaryTable } from '../../layers/rotary';
import { QUESTION_TYPES, type QuestionType } from '../scenes/questions';
import { crossEntropy, oneHot } from './losses';
import { PREDICTIONS, PREFIX_LENGTH, packMask, packPositions, QUESTION_LENGTH, QUESTIONS_PER_IMAGE, type QuestionBatch } from './questions_batch';
import { LANGUAGE_PATH, PROJECTOR_PATH, TEXT_SHAPE, VISION_SHAPE, WIDTH } from './recipe';

/** Projector and decoder over packed questions. */
export class DecoderModel {
  readonly projector: Projector;
  private readonly llama: Llama;
  private readonly masks = new Map<number, tf.Tensor2D>();
  private readonly tables = new Map<string, RotaryTable>();

  constructor(parameters: Parameters, shape: LlamaShape = TEXT_SHAPE) {
    this.projector = new Projector(parameters.at(PROJECTOR_PATH), VISION_SHAPE.hidden_size, WIDTH, { activation: 'gelu', bias: true });
    this.llama = new Llama(parameters.at(LANGUAGE_PATH), shape);
  }

  /** Visual tokens [images * n, D] and questions -> logits [images * PREDICTIONS, vocabulary] */
  logits(visual: tf.Tensor2D, batch: QuestionBatch): tf.Tensor2D {
    const { images } = batch;
    const count = visual.shape[0] / images;
    const length = PREFIX_LENGTH + count + QUESTION_LENGTH;
    const positions = packPositions(count);
    const table = this.table(images, count, positions);
    const mask = this.mask(count);
    return tf.tidy(() => {
      const text = tf.reshape(this.llama.embed(batch.ids), [images, PREFIX_LENGTH + QUESTION_LENGTH, WIDTH]);
      const [prefix, questions] = tf.split(text, [PREFIX_LENGTH, QUESTION_LENGTH], 1) as [tf.Tensor, tf.Tensor];
      const tokens = tf.concat([prefix, tf.reshape(visual, [images, count, WIDTH]), questions], 1);
      let states = tf.reshape(tokens, [images * length, WIDTH]) as tf.Tensor2D;
      const segments = Array.from({ length: images }, (_, i) => ({ start: i * length, length }));
      const context = { segments, rotary: table, masks: [mask], positions };
      for (const block of this.llama.blocks) states = block.apply(states, context);
      const asked = batch.rows.map((row, i) => Math.floor(i / PREDICTIONS) * length + PREFIX_LENGTH + count + row);
      return this.llama.logits(tf.gather(states, tf.tensor1d(asked, 'int32')));
    });
  }

  /** Mean cross-entropy of a question. */
  loss(visual: tf.Tensor2D, batch: QuestionBatch): tf.Scalar {
    return tf.tidy(() => {
      const target = oneHot(tf.tensor1d(batch.targets, 'int32'), TEXT_SHAPE.vocab_size);
      const weights = tf.tensor2d(batch.weights, [batch.weights.length, 1]);
      const questions = batch.images * QUESTIONS_PER_IMAGE;
      return tf.div(crossEntropy(this.logits(visual, batch), target, weights), questions) as tf.Scalar;
    });
  }

  /** Adds right answers and questions by type to `tally`. */
  async score(visual: tf.Tensor2D, batch: QuestionBatch, tally: Tally): Promise<void> {
    const best = tf.tidy(() => tf.argMax(this.logits(visual, batch), 1));
    const answers = await best.data();
    best.dispose();
    for (const [i, type] of batch.types.entries()) tally.add(type, answers[i] === batch.targets[i]);
  }

  dispose(): void {
    tf.dispose([...this.masks.values()]);
    for (const { cos, sin } of this.tables.values()) tf.dispose([cos, sin]);
  }

  private mask(visual: number): tf.Tensor2D {
    const length = PREFIX_LENGTH + visual + QUESTION_LENGTH;
    const mask = this.masks.get(visual) ?? tf.keep(tf.tensor2d(packMask(visual), [length, length]));
    this.masks.set(visual, mask);
    return mask;
  }

  private table(images: number, visual: number, positions: Int32Array): RotaryTable {
    const key = `${images} ${visual}`;
    let table = this.tables.get(key);
    if (!table) {
      const all = new Int32Array(images * positions.length);
      for (let i = 0; i < images; i++) all.set(positions, i * positions.length);
      const made = this.llama.rotary.table(all);
      table = { cos: tf.keep(made.cos), sin: tf.keep(made.sin) };
      this.tables.set(key, table);
    }
    return table;
  }
}

/** Right answers by type of question. */
export class Tally {
  private readonly right = new Map<string, number>();
  private readonly all = new Map<string, number>();

  add(type: QuestionType | 'end', isRight: boolean): void {
    this.right.set(type, (this.right.get(type) ?? 0) + (isRight ? 1 : 0));
    this.all.set(type, (this.all.get(type) ?? 0) + 1);
  }

  share(type: QuestionType | 'end'): number {
    return (this.right.get(type) ?? 0) / Math.max(1, this.all.get(type) ?? 0);
  }

  /** Shares in per cent, and their mean over the types. */
  summary(): string {
    const shares = QUESTION_TYPES.map((type) => this.share(type));
    const mean = shares.reduce((a, b) => a + b, 0) / shares.length;
    return `mean ${(100 * mean).toFixed(1)} ${QUESTION_TYPES.map((type, i) => `${type} ${(100 * (shares[i] as number)).toFixed(1)}`).join(' ')} end ${(100 * this.share('end')).toFixed(1)}`;
  }
}
