import type { Tokenizer } from '@huggingface/tokenizers';

/** What a tokenizer.json's `decoder` says, as far as it matters for the bytes of single tokens. */
interface DecoderConfig {
  readonly type: string;
  readonly decoders?: readonly DecoderConfig[];
  readonly replacement?: string;
  readonly pattern?: { readonly String?: string };
  readonly content?: string;
}

const encoder = new TextEncoder();

/**
 * The bytes that each token stands for inside a text. Byte-level tokenizers (GPT-2's and its heirs) spell every byte as a character of its own;
 * tokenizers of SentencePiece's kind (Llama's) have a sign for a space, and names like `<0x0A>` for single bytes. Of any other kind a token's bytes are
 * those of its text alone.
 */
export class TokenBytes {
  /** Whether the bytes of tokens in a row are the bytes of their text (but for a space that begins it, which Llama's decoder drops). */
  readonly exact: boolean;
  private readonly bytesOf: (token: string, id: number) => Uint8Array;
  private readonly added: ReadonlyMap<number, { readonly content: string; readonly special: boolean }>;

  constructor(private readonly tokenizer: Tokenizer) {
    this.added = tokenizer.get_added_tokens_decoder();
    const steps = flat(tokenizer.decoder?.config as DecoderConfig | undefined);
    const has = (type: string) => steps.some((step) => step.type === type);
    const space = spaceSign(steps);
    this.exact = has('ByteLevel') || space !== undefined;
    if (has('ByteLevel')) this.bytesOf = byteLevel;
    else if (space !== undefined) this.bytesOf = (token) => pieceBytes(token, space, has('ByteFallback'));
    else this.bytesOf = (_, id) => encoder.encode(tokenizer.decode([id], { skip_special_tokens: false }));
  }

  /** Whether the id is of a special token, or of none: a model's head may have more rows than the tokenizer has tokens. */
  isSpecial(id: number): boolean {
    return this.added.get(id)?.special ?? this.tokenizer.id_to_token(id) === undefined;
  }

  /** Bytes of a token, also of a special one; none for an id without a token. */
  of(id: number): Uint8Array {
    const added = this.added.get(id);
    if (added) return encoder.encode(added.content);
    const token = this.tokenizer.id_to_token(id);
    return token === undefined ? new Uint8Array(0) : this.bytesOf(token, id);
  }
}

function flat(config: DecoderConfig | undefined): readonly DecoderConfig[] {
  if (!config) return [];
  return config.type === 'Sequence' ? (config.decoders ?? []).flatMap(flat) : [config];
}

/** The sign that the decoder turns into a space. */
function spaceSign(steps: readonly DecoderConfig[]): string | undefined {
  const step = steps.find(
    ({ type, content, pattern }) => type === 'Metaspace' || (type === 'Replace' && content === ' ' && pattern?.String !== undefined),
  );
  return step?.type === 'Metaspace' ? (step.replacement ?? '▁') : step?.pattern?.String;
}

function pieceBytes(token: string, space: string, byteFallback: boolean): Uint8Array {
  const byte = byteFallback ? /^<0x([0-9A-F]{2})>$/i.exec(token)?.[1] : undefined;
  return byte === undefined ? encoder.encode(token.replaceAll(space, ' ')) : Uint8Array.of(Number.parseInt(byte, 16));
}

/** GPT-2's spelling: the 188 bytes that print in Latin-1 stand for themselves, the others follow from U+0100 on, in order. */
const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = new Map(
  Array.from({ length: 256 }, (_, byte) => byte)
    .sort((a, b) => Number(!prints(a)) - Number(!prints(b)) || a - b)
    .map((byte, place) => [String.fromCodePoint(prints(byte) ? byte : 0x100 + place - 188), byte]),
);
const CHARACTER_OF_BYTE: ReadonlyMap<number, string> = new Map(Array.from(BYTE_OF_CHARACTER, ([character, byte]) => [byte, character]));

function prints(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

function byteLevel(token: string): Uint8Array {
  const bytes = Array.from(token, (character) => BYTE_OF_CHARACTER.get(character));
  return bytes.includes(undefined) ? encoder.encode(token) : Uint8Array.from(bytes as number[]);
}

/** Bytes in GPT-2's spelling. */
export function spellBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => CHARACTER_OF_BYTE.get(byte)).join('');
}
