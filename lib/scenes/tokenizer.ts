import { COLOURS, LETTERS, MAX_OBJECTS, PATCH_SIZE, SCENE_SIZE, SHAPES } from './constants';
import { ANSWERS, plural, QUESTION_TYPES } from './questions';

/*
 * The one source of truth of the shipped model's vocabulary, prompt and preprocessing: training encodes with it and the exporter writes its files.
 */
export const PAD = '<pad>';
export const UNKNOWN = '<unk>';
export const BOS = '<s>';
export const EOS = '</s>';
export const IMAGE = '<image>';
const SPECIAL = [PAD, UNKNOWN, BOS, EOS, IMAGE] as const;
const USER = 'USER:';
const ASSISTANT = 'ASSISTANT:';

/** Pixels enter the encoder as (value / 255 - mean) / std, per channel. */
export const PIXEL_MEAN: readonly [number, number, number] = [0.45, 0.45, 0.45];
export const PIXEL_STD: readonly [number, number, number] = [0.25, 0.25, 0.25];

const QUESTION_WORDS = 'is there a an what color the shape object objects letter how many are left or right of above below where which'.split(' ');

/** Every token, its index is its id. */
export const VOCABULARY: readonly string[] = [
  ...new Set<string>([
    ...SPECIAL,
    USER,
    ASSISTANT,
    '?',
    ...QUESTION_WORDS,
    ...COLOURS,
    ...SHAPES,
    ...SHAPES.map(plural),
    ...LETTERS,
    ...Array.from({ length: MAX_OBJECTS + 1 }, (_, i) => String(i)),
    ...QUESTION_TYPES.flatMap((type) => ANSWERS[type]),
  ]),
];

const ids = new Map(VOCABULARY.map((token, id) => [token, id]));

/** The id of a token; the id of `<unk>` for anything else. */
export function tokenId(token: string): number {
  return ids.get(token) ?? (ids.get(UNKNOWN) as number);
}

/** Ids of the prompt before the question: `<s> USER: <image>`. The visual tokens go where `<image>` is. */
export const PROMPT_START: readonly number[] = [BOS, USER, IMAGE].map(tokenId);
/** The same with the image withheld. */
export const BLIND_PROMPT_START: readonly number[] = [BOS, USER].map(tokenId);

/** Ids of a generated question and of the cue for its answer, as the tokenizer's files make them; the answer's id comes next, then `</s>`. */
export function encodeQuestion(text: string): number[] {
  return [...text.replaceAll('?', ' ?').split(/\s+/).filter(Boolean), ASSISTANT].map(tokenId);
}

/** The contents of the tokenizer's and processor's files in a checkpoint's directory, by file name. Objects are written as JSON. */
export interface ProcessorFiles {
  readonly 'tokenizer.json': object;
  readonly 'tokenizer_config.json': object;
  readonly 'special_tokens_map.json': object;
  readonly 'preprocessor_config.json': object;
  readonly 'processor_config.json': object;
  readonly 'chat_template.jinja': string;
}

/** Vicuna's turns without the system sentence: `USER: <image>\n{question} ASSISTANT:`; an answer is closed by `</s>`. */
const CHAT_TEMPLATE: string = [
  "{%- for message in messages -%}{%- if message['role'] == 'user' -%}{{- 'USER: ' -}}{%- else -%}{{- 'ASSISTANT: ' -}}{%- endif -%}",
  "{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}",
  "{%- for part in message['content'] -%}{%- if part['type'] == 'image' -%}{{- '<image>\\n' -}}{%- endif -%}{%- endfor -%}",
  "{%- for part in message['content'] -%}{%- if part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}{%- endfor -%}",
  "{%- endif -%}{%- if message['role'] == 'user' -%}{{- ' ' -}}{%- else -%}{{- '</s>' -}}{%- endif -%}{%- endfor -%}",
  "{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}",
].join('');

/**
 * A word-level tokenizer, written as WordPiece with no inner pieces: a word is one token or `<unk>`. (`WordLevel` would say the same,
 * but JavaScript readers of tokenizer.json do not know it.) Capitals matter only where they stand alone: `A` is the letter, `Is` is `is`.
 */
function tokenizerJson(): object {
  const replace = (pattern: object, content: string): object => ({ type: 'Replace', pattern, content });
  const capitals = Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZ');
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL.map((content) => ({
      id: tokenId(content),
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        ...capitals.map((letter) => replace({ Regex: `${letter}(?=[a-z])` }, letter.toLowerCase())),
        replace({ String: 'colour' }, 'color'),
        replace({ String: 'thing' }, 'object'),
      ],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [{ type: 'WhitespaceSplit' }, { type: 'Split', pattern: { Regex: '[?.,!]' }, behavior: 'Isolated', invert: false }],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: BOS, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ SpecialToken: { id: BOS, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 0 } }],
      special_tokens: { [BOS]: { id: BOS, ids: [tokenId(BOS)], tokens: [BOS] } },
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: UNKNOWN,
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(VOCABULARY.map((token, id) => [token, id])),
    },
  };
}

/** All files beside config.json and the weights that `transformers` and this package read. */
export function buildProcessorFiles(): ProcessorFiles {
  const special = { bos_token: BOS, eos_token: EOS, unk_token: UNKNOWN, pad_token: PAD };
  return {
    'tokenizer.json': tokenizerJson(),
    'tokenizer_config.json': {
      ...special,
      additional_special_tokens: [IMAGE],
      clean_up_tokenization_spaces: true,
      model_max_length: 2048,
      padding_side: 'left',
      processor_class: 'LlavaProcessor',
      tokenizer_class: 'PreTrainedTokenizerFast',
    },
    'special_tokens_map.json': { ...special, additional_special_tokens: [IMAGE] },
    'preprocessor_config.json': {
      crop_size: { height: SCENE_SIZE, width: SCENE_SIZE },
      do_center_crop: true,
      do_convert_rgb: true,
      do_normalize: true,
      do_rescale: true,
      do_resize: true,
      image_mean: [...PIXEL_MEAN],
      image_processor_type: 'CLIPImageProcessor',
      image_std: [...PIXEL_STD],
      processor_class: 'LlavaProcessor',
      resample: 3,
      rescale_factor: 1 / 255,
      size: { shortest_edge: SCENE_SIZE },
    },
    'processor_config.json': {
      image_token: IMAGE,
      num_additional_image_tokens: 1,
      patch_size: PATCH_SIZE,
      processor_class: 'LlavaProcessor',
      vision_feature_select_strategy: 'default',
    },
    'chat_template.jinja': CHAT_TEMPLATE,
  };
}
