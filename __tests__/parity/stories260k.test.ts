import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { float32Factory } from '../../lib/backend/matrices';
import { parseConfig } from '../../lib/config';
import { Llava } from '../../lib/llava';
import { TokenModel } from '../../lib/token_model';
import { readCheckpoint } from '../../weights/checkpoint_node';
import { checkpointSource } from '../../weights/sources';
import { useBackend, withoutLeaks } from '../support/backends';
import { readJson } from '../support/recorded';

/** A Llama trained on TinyStories, which is not part of this project: the test runs where a copy lies beside it. */
const DIRECTORY = join(__dirname, '..', '..', '..', 'shared', 'data', 'stories260k');
const describeWhere = existsSync(DIRECTORY) ? describe : describe.skip;

describeWhere('a trained Llama (stories260k)', () => {
  beforeAll(() => useBackend('wasm'));

  it('tells greedily, without any image, the story that transformers tells', async () => {
    const { prompt, greedy, text } = readJson<{ prompt: number[]; greedy: number[]; text: string }>('stories260k.json');
    await withoutLeaks(async () => {
      const config = parseConfig(JSON.parse(readFileSync(join(DIRECTORY, 'config.json'), 'utf8')));
      const checkpoint = await readCheckpoint(DIRECTORY);
      const source = checkpointSource(checkpoint, float32Factory());
      const llava = new Llava(config, source.root);
      await source.fill();
      await checkpoint.close();
      const model = new TokenModel(config, {}, 'wasm', source, llava);
      const { ids } = await model.generate({ inputIds: prompt }, { maxNewTokens: 120 });
      expect([...ids]).toEqual(greedy.slice(0, 120));
      expect(textOf(ids)).toMatch(/^Once upon a time, there was a little girl named Lily\. She loved to play outside in the park\./);
      expect(text.startsWith(textOf(ids))).toBe(true);
      model.dispose();
    });
  }, 300_000);
});

/** llama2.c's vocabulary: int32 longest length, then for each token float32 score, int32 length, bytes; `<0x0A>` stands for that byte. */
function textOf(ids: Int32Array): string {
  const file = readFileSync(join(DIRECTORY, 'tok512.bin'));
  const pieces: string[] = [];
  for (let offset = 4; offset < file.length; ) {
    const length = file.readInt32LE(offset + 4);
    pieces.push(file.toString('utf8', offset + 8, offset + 8 + length));
    offset += 8 + length;
  }
  return Array.from(ids, (id) => (pieces[id] as string).replace(/^<0x(..)>$/, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))))
    .join('')
    .replace(/^ /, '');
}
