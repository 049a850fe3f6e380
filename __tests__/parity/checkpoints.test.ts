import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { float32Factory } from '../../lib/backend/matrices';
import { parseConfig } from '../../lib/config';
import { Llava } from '../../lib/llava';
import { TokenModel } from '../../lib/token_model';
import { readCheckpoint } from '../../weights/checkpoint_node';
import { checkpointSource } from '../../weights/sources';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { expectClose } from '../support/compare';
import { disposeImages, fixtureImages } from '../support/fixture_model';
import { channelsLast, FIXTURES, RecordedFile, readJson } from '../support/recorded';

/** A model from a checkpoint's directory, by the library's own reader and matrices; these directories have no tokenizer. */
async function openModel(backend: (typeof BACKENDS)[number], path: string): Promise<TokenModel> {
  const directory = join(FIXTURES, path);
  const config = parseConfig(JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8')), `${path}/config.json`);
  const checkpoint = await readCheckpoint(directory);
  try {
    const source = checkpointSource(checkpoint, float32Factory());
    const llava = new Llava(config, source.root);
    await source.fill();
    return new TokenModel(config, {}, backend, source, llava);
  } finally {
    await checkpoint.close();
  }
}

describe.each(BACKENDS)('checkpoints read from their files on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  const layouts = backend === 'wasm' ? ['layouts/older', 'layouts/newer', 'layouts/mixed', 'layouts/sharded', 'biased'] : ['biased'];

  it.each(layouts)('%s gives transformers’ logits and ids, whatever its keys and precision', async (directory) => {
    const recorded = directory.split('/')[0] as string; // all layouts share one record
    const reference = new RecordedFile(recorded, 'reference.safetensors');
    const { input_ids, greedy } = readJson<{ input_ids: number[]; greedy: number[] }>(recorded, 'reference.json');
    await withoutLeaks(async () => {
      const model = await openModel(backend, directory);
      const pixelValues = channelsLast(reference.get('pixel_values'), 0, 1);
      const images = [{ pixelValues, originalSize: { width: 8, height: 8 }, grid: { rows: 2, columns: 2 } }];
      const { logits } = await model.forward({ inputIds: input_ids, images });
      await expectClose(logits, reference.get('logits'), directory);
      logits.dispose();
      const { ids } = await model.generate({ inputIds: input_ids, images }, { maxNewTokens: greedy.length });
      expect([...ids]).toEqual(greedy);
      disposeImages(images);
      model.dispose();
    });
  });
});

it('a tied head is read from the embedding, and the head of an untied model from its own tensor', async () => {
  await useBackend('wasm');
  for (const [directory, name] of [
    ['gqa', 'default.logits'],
    ['tiny-llava-hf', 'logits'],
  ] as const) {
    const reference = new RecordedFile(directory, 'reference.safetensors');
    const inputIds =
      directory === 'gqa'
        ? (readJson<{ cases: { input_ids: number[] }[] }>('gqa', 'reference.json').cases[0]?.input_ids ?? [])
        : reference.ids('input_ids');
    await withoutLeaks(async () => {
      const model = await openModel('wasm', directory);
      const images = fixtureImages(directory, 1);
      for (let pass = 0; pass < 2; pass++) {
        const { logits } = await model.forward({ inputIds, images }); // twice: a tied embedding changes its layout when it first serves as the head
        await expectClose(logits, reference.get(name), `${directory}, pass ${pass}`);
        logits.dispose();
      }
      disposeImages(images);
      model.dispose();
    });
  }
});
