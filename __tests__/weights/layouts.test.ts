import { join } from 'node:path';
import { readCheckpoint } from '../../weights/checkpoint_node';
import { isDroppable, LAYOUTS, layoutByName, mapNames, storedName } from '../../weights/layouts';

const namesOf = async (...path: string[]): Promise<readonly string[]> => {
  const checkpoint = await readCheckpoint(join(__dirname, '..', 'fixtures', ...path));
  await checkpoint.close();
  return checkpoint.names;
};

it('sees one model in every layout that transformers writes', async () => {
  const mixed = mapNames(await namesOf('layouts', 'mixed'));
  expect([mixed.layout.name, mixed.unknown, mixed.dropped]).toEqual(['mixed', [], []]);
  for (const layout of ['older', 'newer']) {
    const other = mapNames(await namesOf('layouts', layout));
    expect([other.layout.name, other.unknown]).toEqual([layout, []]);
    expect([...other.stored.keys()].sort()).toEqual([...mixed.stored.keys()].sort());
  }
});

it('drops the buffers of older files, and nothing else', async () => {
  const { dropped } = mapNames(await namesOf('layouts', 'older'));
  expect(dropped.length).toBeGreaterThan(0);
  for (const name of dropped) expect(name).toMatch(/position_ids$|rotary_emb\.inv_freq$/);
});

it('reads a Llama alone, and a tower without vision_model below model', () => {
  expect(mapNames(['model.embed_tokens.weight', 'model.layers.11.mlp.up_proj.weight', 'model.norm.weight', 'lm_head.weight'])).toMatchObject({
    layout: { name: 'llama' },
    unknown: [],
    stored: new Map([
      ['language_model.model.embed_tokens.weight', 'model.embed_tokens.weight'],
      ['language_model.model.layers.11.mlp.up_proj.weight', 'model.layers.11.mlp.up_proj.weight'],
      ['language_model.model.norm.weight', 'model.norm.weight'],
      ['language_model.lm_head.weight', 'lm_head.weight'],
    ]),
  });
  expect(mapNames(['model.vision_tower.pre_layrnorm.bias', 'model.language_model.norm.weight']).layout.name).toBe('newer-flat');
});

it('does not take an unknown name for a known one', () => {
  const { unknown } = mapNames(['language_model.model.norm.weight', 'vision_towel.embeddings.class_embedding', 'model.norm.weight']);
  expect(unknown).toEqual(['vision_towel.embeddings.class_embedding', 'model.norm.weight']);
});

it.each(LAYOUTS.map((layout) => layout.name))('%s: a name that is written is read back', (name) => {
  const layout = layoutByName(name);
  for (const declared of [
    'language_model.model.layers.3.self_attn.q_proj.weight',
    'language_model.lm_head.weight',
    'vision_tower.pre_layrnorm.weight',
  ]) {
    const stored = storedName(layout, declared);
    if (stored === undefined) expect([name, declared]).toEqual(['llama', 'vision_tower.pre_layrnorm.weight']);
    else expect(mapNames([stored, ...anchors(name)]).stored.get(declared)).toBe(stored);
  }
  expect(() => layoutByName('')).toThrow('Known: mixed, older');
});

/** Names that tell a layout from the others. */
function anchors(layout: string): string[] {
  const some = ['vision_tower.encoder.layers.0.mlp.fc1.bias', 'language_model.model.embed_tokens.weight'];
  return some.flatMap((declared) => storedName(layoutByName(layout), declared) ?? []);
}

describe('a tensor that no layer declared may be dropped', () => {
  const declared = ['vision_tower.encoder.layers.0.layer_norm1.weight', 'language_model.model.norm.weight'];

  it('when the whole part is unused', () => {
    expect(isDroppable('vision_tower.post_layernorm.bias', declared)).toBe(true);
    expect(isDroppable('vision_tower.encoder.layers.2.mlp.fc1.weight', declared)).toBe(true);
    expect(isDroppable('language_model.lm_head.weight', declared)).toBe(true);
  });

  it('but not when only this tensor was forgotten', () => {
    expect(isDroppable('vision_tower.encoder.layers.0.mlp.fc1.weight', declared)).toBe(false);
    expect(isDroppable('language_model.model.layers.7.mlp.up_proj.weight', declared)).toBe(false);
    expect(isDroppable('vision_tower.post_layernorm.bias', [...declared, 'vision_tower.post_layernorm.weight'])).toBe(false);
  });
});
