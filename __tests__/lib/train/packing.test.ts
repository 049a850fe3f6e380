import * as tf from '@tensorflow/tfjs';
import { causalMask } from '../../../layers/attention';
import { Llama } from '../../../layers/llama';
import { Random } from '../../../lib/random';
import { layoutScene } from '../../../lib/scenes';
import { DecoderModel } from '../../../lib/train/decoder_model';
import { PREDICTIONS, PREFIX_LENGTH, packPositions, QUESTION_LENGTH, questionBatch, SLOTS } from '../../../lib/train/questions_batch';
import { DECODER_INITIAL, LANGUAGE_PATH, TEXT_SHAPE, WIDTH } from '../../../lib/train/recipe';
import { randomSubset } from '../../../lib/train/symbolic';
import { VariableSource } from '../../../lib/train/variables';
import { useBackend } from '../../support/backends';

beforeAll(() => useBackend('wasm'));

const VISUAL = 6;

/** The slot in which a row after the visual tokens lies. */
function slotOf(row: number): (typeof SLOTS)[number] {
  return SLOTS.find(({ start, length }) => row < start + length) as (typeof SLOTS)[number];
}

it('a question packed among others gets the logits that it gets alone', async () => {
  const packed = new VariableSource(DECODER_INITIAL, 3);
  const model = new DecoderModel(packed.parameters);
  const alone = new VariableSource(DECODER_INITIAL, 4);
  const llama = new Llama(alone.parameters.at(LANGUAGE_PATH), TEXT_SHAPE);
  alone.import(await packed.export());
  const batch = questionBatch([layoutScene(5)], new Random(1));
  const visual = tf.randomNormal([VISUAL, WIDTH], 0, 0.5, 'float32', 9) as tf.Tensor2D;
  const together = await (model.logits(visual, batch).array() as Promise<number[][]>);
  expect(together).toHaveLength(PREDICTIONS);
  for (let i = 0; i < PREDICTIONS; i++) {
    const slot = slotOf(batch.rows[i] as number);
    const asked = (batch.rows[i] as number) - slot.start + 1;
    const question = batch.ids.slice(PREFIX_LENGTH + slot.start, PREFIX_LENGTH + slot.start + asked);
    const tokens = tf.concat([llama.embed(batch.ids.slice(0, PREFIX_LENGTH)), visual, llama.embed(question)], 0);
    const length = tokens.shape[0];
    const positions = Int32Array.from({ length }, (_, p) => p);
    const context = { segments: [{ start: 0, length }], rotary: llama.rotary.table(positions), masks: [causalMask(length, length)], positions };
    let states = tokens as tf.Tensor2D;
    for (const block of llama.blocks) states = block.apply(states, context);
    const single = (await llama.logits(tf.slice(states, [length - 1, 0], [1, -1])).array())[0] as number[];
    for (const [token, value] of single.entries()) expect(together[i]?.[token]).toBeCloseTo(value, 3);
  }
});

it('every question restarts its positions where the visual tokens end', () => {
  const positions = packPositions(VISUAL);
  expect(positions).toHaveLength(PREFIX_LENGTH + VISUAL + QUESTION_LENGTH);
  for (const { start } of SLOTS) expect(positions[PREFIX_LENGTH + VISUAL + start]).toBe(PREFIX_LENGTH + VISUAL);
});

it('every question fits its slot, its answer is no part of what is read, and a long one and a short one learn to end', () => {
  const random = new Random(2);
  for (let seed = 0; seed < 200; seed++) {
    const { rows, targets, ids, types } = questionBatch([layoutScene(seed)], random);
    const slots = Array.from(rows, slotOf);
    expect(new Set(slots)).toEqual(new Set(SLOTS));
    for (const [i, slot] of slots.entries()) {
      const place = PREFIX_LENGTH + (rows[i] as number);
      const after = ids.slice(place + 1, PREFIX_LENGTH + slot.start + slot.length);
      if (types[i] === 'end') expect(ids[place]).toBe(targets[i - 1]);
      else if (!slot.ends) expect(after).not.toContain(targets[i]);
    }
    expect(types.filter((type) => type === 'end')).toHaveLength(2);
    expect(types[1]).toBe('end');
    expect(types.at(-1)).toBe('end');
  }
});

it('a random subset is ascending, distinct and of the size asked for; centres stay when they shall', () => {
  const scene = layoutScene(7);
  const subset = randomSubset(scene, 40, new Random(3), 1);
  expect(Array.from(new Set(subset))).toEqual(Array.from(subset).sort((a, b) => a - b));
  expect(subset).toHaveLength(40);
  scene.patchLabels.isCentre.forEach((is, patch) => {
    if (is) expect(subset).toContain(patch);
  });
});
