import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { loadModel, useBackend } from '../../lib';
import { withoutLeaks } from '../support/backends';
import { expectClose } from '../support/compare';
import { disposeImages } from '../support/fixture_model';
import { FIXTURES, RecordedFile, readJson } from '../support/recorded';

interface Asked {
  readonly image: string;
  readonly question: string;
  readonly ids: readonly number[];
  readonly answer_ids: readonly number[];
  readonly text: string;
}

const ROOT = join(__dirname, '..', '..');
const MODEL = join(ROOT, 'weights', 'vispruner-tiny');
/** Until a model is shipped and recorded there is nothing to compare. */
const describeOnce = existsSync(join(FIXTURES, 'shipped', 'reference.json')) ? describe : describe.skip;

describeOnce('the shipped model, file to answer, against transformers', () => {
  const recorded = () => readJson<{ cases: Asked[]; sha256: string }>('shipped', 'reference.json');

  it('is the one that was recorded (else run __tests__/fixtures/make/check_shipped.py again)', () => {
    expect(
      createHash('sha256')
        .update(readFileSync(join(MODEL, 'model.safetensors')))
        .digest('hex'),
    ).toBe(recorded().sha256);
  });

  it('writes the same prompt ids, logits and answers for sample images and questions', async () => {
    const reference = new RecordedFile('shipped', 'reference.safetensors');
    await useBackend('wasm');
    await withoutLeaks(async () => {
      const model = await loadModel(MODEL, { backend: 'wasm' });
      for (const [i, { image, question, ids, answer_ids, text }] of recorded().cases.entries()) {
        const path = join(ROOT, 'examples', 'images', image);
        const inputIds = model.chatProcessor.encode([{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: question }] }], 1);
        expect([...inputIds]).toEqual(ids);
        const images = await model.prepareImages([path]);
        const { logits } = await model.forward({ inputIds, images });
        const last = tf.tidy(() => tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1]));
        await expectClose(last, reference.get(`${i}.logits`), `${image}, "${question}"`);
        const answer = await model.ask(path, question, { maxNewTokens: 4 });
        expect(answer.text).toBe(text);
        expect([...answer.ids]).toEqual(answer_ids);
        tf.dispose([logits, last]);
        disposeImages(images);
      }
      model.dispose();
    });
  }, 300_000);
});
