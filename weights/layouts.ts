import { CheckpointError } from '../layers/errors';

/**
 * How a release names the tensors of a model. `rules` map its names to the ones that layers declare, which are transformers 5.18's:
 * `vision_tower.{embeddings,pre_layrnorm,encoder,post_layernorm}.*`, `multi_modal_projector.linear_{1,2}.*`, `language_model.model.*`,
 * `language_model.lm_head.weight`. In a pattern `{n}` is a number and a last `*` the rest of the name; the first rule that fits counts.
 * A target of `null` says: known, and not needed (buffers that can be computed).
 */
export interface Layout {
  readonly name: string;
  readonly writtenBy: string;
  readonly rules: readonly (readonly [stored: string, declared: string | null])[];
}

const NO_BUFFERS: Layout['rules'] = [
  ['vision_tower.embeddings.position_ids', null],
  ['vision_tower.vision_model.embeddings.position_ids', null],
  ['model.vision_tower.embeddings.position_ids', null],
  ['model.vision_tower.vision_model.embeddings.position_ids', null],
  ['language_model.model.layers.{n}.self_attn.rotary_emb.inv_freq', null],
  ['language_model.model.rotary_emb.inv_freq', null],
  ['model.language_model.layers.{n}.self_attn.rotary_emb.inv_freq', null],
  ['model.language_model.rotary_emb.inv_freq', null],
  ['model.layers.{n}.self_attn.rotary_emb.inv_freq', null],
  ['model.rotary_emb.inv_freq', null],
];

const CLIP_PARTS = ['embeddings', 'pre_layrnorm', 'encoder', 'post_layernorm'];

function tower(prefix: string): Layout['rules'] {
  return CLIP_PARTS.map((part) => [`${prefix}.${part}.*`, `vision_tower.${part}.*`] as const);
}

function decoder(prefix: string): Layout['rules'] {
  return ['embed_tokens', 'layers.{n}', 'norm'].map((part) => [`${prefix}.${part}.*`, `language_model.model.${part}.*`] as const);
}

/** The form that layers declare, and that is written unless another is asked for. */
export const DECLARED_LAYOUT: Layout = {
  name: 'mixed',
  writtenBy: 'transformers 5.18 (save_pretrained)',
  rules: [
    ...NO_BUFFERS,
    ...tower('vision_tower'),
    ['multi_modal_projector.*', 'multi_modal_projector.*'],
    ...decoder('language_model.model'),
    ['language_model.lm_head.*', 'language_model.lm_head.*'],
  ],
};

/** Every form that is read. */
export const LAYOUTS: readonly Layout[] = [
  DECLARED_LAYOUT,
  {
    name: 'older',
    writtenBy: 'transformers before 4.52 (llava-hf)',
    rules: [
      ...NO_BUFFERS,
      ...tower('vision_tower.vision_model'),
      ['multi_modal_projector.*', 'multi_modal_projector.*'],
      ...decoder('language_model.model'),
      ['language_model.lm_head.*', 'language_model.lm_head.*'],
    ],
  },
  {
    name: 'newer',
    writtenBy: 'transformers from 4.52',
    rules: [
      ...NO_BUFFERS,
      ...tower('model.vision_tower.vision_model'),
      ['model.multi_modal_projector.*', 'multi_modal_projector.*'],
      ...decoder('model.language_model'),
      ['lm_head.*', 'language_model.lm_head.*'],
    ],
  },
  {
    name: 'newer-flat',
    writtenBy: 'transformers 5, the names of its modules',
    rules: [
      ...NO_BUFFERS,
      ...tower('model.vision_tower'),
      ['model.multi_modal_projector.*', 'multi_modal_projector.*'],
      ...decoder('model.language_model'),
      ['lm_head.*', 'language_model.lm_head.*'],
    ],
  },
  {
    name: 'llama',
    writtenBy: 'transformers (LlamaForCausalLM): a language model alone',
    rules: [...NO_BUFFERS, ...decoder('model'), ['lm_head.*', 'language_model.lm_head.*']],
  },
];

/** The text half of CLIP and what its image half has behind the blocks (`lib/clip`). Not among `LAYOUTS`: it is no model that is converted or asked. */
export const CLIP_LAYOUT: Layout = {
  name: 'clip',
  writtenBy: 'transformers (CLIPModel)',
  rules: [
    ['logit_scale', null],
    ['text_model.embeddings.position_ids', null],
    ['text_model.*', 'text_model.*'],
    ['text_projection.*', 'text_projection.*'],
    ['visual_projection.*', 'visual_projection.*'],
    ['vision_model.post_layernorm.*', 'vision_model.post_layernorm.*'],
    ['vision_model.*', null], // LLaVA runs this half by its own copy
  ],
};

/**
 * Tensors, under their declared names, that may lie unread in a checkpoint. Each is dropped only if no layer declared anything that its `*` stands for:
 * then the whole part is unused, and not one tensor of it forgotten.
 */
const DROPPABLE: readonly (readonly [pattern: string, why: string])[] = [
  ['vision_tower.post_layernorm.*', 'LLaVA takes features before it'],
  ['vision_tower.encoder.layers.{n}.*', 'blocks behind the feature layer are not run'],
  ['language_model.lm_head.*', 'a tied head is the embedding'],
];

/** A checkpoint's names put in terms of the declared ones. */
export interface NameMap {
  readonly layout: Layout;
  /** Declared name to stored name. */
  readonly stored: ReadonlyMap<string, string>;
  /** Stored names that are known and not needed. */
  readonly dropped: readonly string[];
  /** Stored names that the layout does not know. */
  readonly unknown: readonly string[];
}

/**
 * Finds the layout that explains the most names.
 * @throws CheckpointError `TWO_NAMES` when two tensors of the file would be one of the model's
 */
export function mapNames(names: readonly string[], layouts: readonly Layout[] = LAYOUTS): NameMap {
  let best: NameMap | undefined;
  for (const layout of layouts) {
    const map = mapNamesBy(layout, names);
    if (!best || map.unknown.length < best.unknown.length) best = map;
    if (best.unknown.length === 0) break;
  }
  return best as NameMap;
}

function mapNamesBy(layout: Layout, names: readonly string[]): NameMap {
  const stored = new Map<string, string>();
  const dropped: string[] = [];
  const unknown: string[] = [];
  for (const name of names) {
    const declared = translate(layout.rules, name);
    if (declared === undefined) {
      unknown.push(name);
    } else if (declared === null) {
      dropped.push(name);
    } else {
      const other = stored.get(declared);
      if (other !== undefined)
        throw new CheckpointError('TWO_NAMES', `"${other}" and "${name}" are both the model's "${declared}". Remove one of them.`);
      stored.set(declared, name);
    }
  }
  return { layout, stored, dropped, unknown };
}

/** The name under which a layout stores a declared tensor, or undefined where the layout has no place for it. */
export function storedName(layout: Layout, declared: string): string | undefined {
  const inverse = layout.rules.flatMap(([stored, target]) => (target === null ? [] : [[target, stored] as const]));
  return translate(inverse, declared) ?? undefined;
}

/** Whether a stored tensor may stay unread: see `DROPPABLE`. */
export function isDroppable(declaredName: string, declarations: readonly string[]): boolean {
  for (const [pattern] of DROPPABLE) {
    const match = matcher(pattern).exec(declaredName);
    if (!match) continue;
    const part = declaredName.slice(0, declaredName.length - (match.groups?.rest ?? '').length);
    return !declarations.some((declared) => declared.startsWith(part));
  }
  return false;
}

/** @throws CheckpointError `UNKNOWN_LAYOUT` */
export function layoutByName(name: string): Layout {
  const layout = LAYOUTS.find((one) => one.name === name);
  if (layout) return layout;
  throw new CheckpointError('UNKNOWN_LAYOUT', `Unknown layout "${name}". Known: ${LAYOUTS.map((one) => one.name).join(', ')}.`);
}

function translate(rules: Layout['rules'], name: string): string | null | undefined {
  for (const [from, to] of rules) {
    const match = matcher(from).exec(name);
    if (match) return to === null ? null : to.replace('{n}', match.groups?.n ?? '').replace(/\*$/, () => match.groups?.rest ?? '');
  }
  return undefined;
}

const matchers = new Map<string, RegExp>();

function matcher(pattern: string): RegExp {
  let found = matchers.get(pattern);
  if (!found) {
    const source = pattern.replaceAll('.', '\\.').replace('{n}', '(?<n>[0-9]+)').replace(/\*$/, '(?<rest>.+)');
    found = new RegExp(`^${source}$`);
    matchers.set(pattern, found);
  }
  return found;
}
