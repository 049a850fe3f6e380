import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from '@mlc-ai/web-xgrammar';
import { PromptError } from '../../layers/errors';
import type { TokenBytes } from '../chat/token_bytes';
import { spellBytes } from '../chat/token_bytes';
import type { LogitsProcessor } from '../logits_processors';
import { type CheckedSchema, checkedSchema, completeGrammar, type JsonSchema } from './json_schema';
import { readUtf8 } from './utf8';
import { type LoadedXgrammar, loadXgrammar } from './xgrammar_node';

/** Compiled schemas that are kept for the next request. */
const KEPT = 16;
/** Between the signs of JSON there is a space or none: a model can't write spaces for ever. */
const SPACES = 1;

/** The tokens of a model, as a grammar sees them. */
export interface GrammarTokens {
  readonly bytes: TokenBytes;
  /** Rows of the model's head. */
  readonly vocabulary: number;
  readonly endIds: ReadonlySet<number>;
}

interface Started extends LoadedXgrammar {
  readonly compiler: GrammarCompiler;
  /** By id: 1 for tokens that may come where no character has begun. */
  readonly whole: Uint8Array;
  dispose(): void;
}

/** Grammars of one model. XGrammar is loaded with the first. */
export class Grammars {
  private started: Promise<Started> | undefined;
  private readonly compiled = new Map<string, CompiledGrammar>();

  constructor(private readonly tokens: GrammarTokens) {}

  /**
   * Begins an answer that is JSON by this schema. Dispose it when the answer is there.
   * @throws PromptError `BAD_SCHEMA`, `SCHEMA_UNSUPPORTED`, `SCHEMA_TOKENIZER`
   */
  async begin(schema: JsonSchema): Promise<GrammarRun> {
    const checked = checkedSchema(schema);
    if (!this.tokens.bytes.exact) {
      throw new PromptError(
        'SCHEMA_TOKENIZER',
        "This model's tokenizer writes words, not the bytes of a text, so its answers can't be held to a schema.",
      );
    }
    const { xgrammar, whole } = await this.start();
    const compiled = await this.compile(checked);
    const matcher = await xgrammar.GrammarMatcher.createGrammarMatcher(compiled);
    const run = new GrammarRun(matcher, this.tokens, whole);
    try {
      await run.look();
      return run;
    } catch (error) {
      run.dispose();
      throw error;
    }
  }

  dispose(): void {
    for (const one of this.compiled.values()) one.dispose();
    this.compiled.clear();
    void this.started?.then((started) => started.dispose());
    this.started = undefined;
  }

  private start(): Promise<Started> {
    this.started ??= startXgrammar(this.tokens);
    return this.started;
  }

  private async compile(checked: CheckedSchema): Promise<CompiledGrammar> {
    const schema = JSON.stringify([checked.schema, ...checked.rules.values()]);
    const before = this.compiled.get(schema);
    if (before) return before;
    const { xgrammar, compiler, lastError } = await this.start();
    try {
      const ebnf = await xgrammar.Testings._jsonSchemaToEBNF(JSON.stringify(checked.schema), true, -1, undefined, true, SPACES);
      const compiled = await compiler.compileGrammar(completeGrammar(ebnf, checked));
      const [oldest] = this.compiled.keys();
      if (this.compiled.size >= KEPT && oldest !== undefined) {
        this.compiled.get(oldest)?.dispose();
        this.compiled.delete(oldest);
      }
      this.compiled.set(schema, compiled);
      return compiled;
    } catch (cause) {
      this.compiled.clear(); // it ends for good when it fails: the next schema gets an instance of its own
      this.started = undefined;
      const reason = /\[FATAL\] \S+ (.*)/s.exec(lastError() ?? '')?.[1] ?? String(cause);
      throw new PromptError('BAD_SCHEMA', `The schema can't be made into a grammar: ${reason}`, { cause });
    }
  }
}

async function startXgrammar({ bytes, vocabulary }: GrammarTokens): Promise<Started> {
  const loaded = await loadXgrammar();
  // Special tokens, and ids without a token, are none of a text. Behind them an id that no model has stands for "the end".
  const spelled = Array.from({ length: vocabulary }, (_, id) => (bytes.isSpecial(id) ? '' : spellBytes(bytes.of(id))));
  const tokens = await loaded.xgrammar.TokenizerInfo.createTokenizerInfo([...spelled, ''], 'byte_level', false, vocabulary + 1, [vocabulary]);
  const compiler = await loaded.xgrammar.GrammarCompiler.createGrammarCompiler(tokens, false);
  const none = new Uint8Array(0);
  return {
    ...loaded,
    compiler,
    whole: Uint8Array.from({ length: vocabulary }, (_, id) => Number(readUtf8(none, bytes.of(id)) !== undefined)),
    dispose() {
      compiler.dispose();
      tokens.dispose();
    },
  };
}

/** Holds one answer to a grammar: rules out every token that can't come next. */
export class GrammarRun {
  /** By id: 1 for tokens that may come next, and behind them for the end. */
  private allowed: Uint8Array = new Uint8Array(0);
  /** Bytes of a character that has begun. The grammar counts bytes of a character only; that they are one is seen to here. */
  private pending: Uint8Array = new Uint8Array(0);
  private ended = false;

  /** Made by `Grammars.begin`. */
  constructor(
    private readonly matcher: GrammarMatcher,
    private readonly tokens: GrammarTokens,
    private readonly whole: Uint8Array,
  ) {}

  /** Whether nothing can follow: the answer is whole. */
  get complete(): boolean {
    return this.ended;
  }

  readonly processor: LogitsProcessor = (logits) => {
    const { endIds, vocabulary } = this.tokens;
    const end = this.allowed[vocabulary] === 1;
    for (let id = 0; id < logits.length; id++) {
      if (this.allowed[id] !== 1 && !(end && endIds.has(id))) logits[id] = Number.NEGATIVE_INFINITY;
    }
  };

  /** Goes on by one token that was written. */
  async accept(id: number): Promise<void> {
    const pending = readUtf8(this.pending, this.tokens.bytes.of(id));
    if (!pending || !this.matcher.acceptToken(id)) {
      throw new PromptError('SCHEMA_TOKENIZER', `Token ${id} was written, which the schema does not allow there.`);
    }
    this.pending = pending;
    await this.look();
  }

  /** Finds out what may come next. */
  async look(): Promise<void> {
    const mask = await this.matcher.getNextTokenBitmask();
    const { vocabulary, bytes } = this.tokens;
    const allowed = Uint8Array.from({ length: vocabulary + 1 }, (_, id) => ((mask[id >> 5] as number) >>> (id & 31)) & 1);
    let going = false;
    for (let id = 0; id < vocabulary; id++) {
      if (allowed[id] === 0) continue;
      const fits = this.pending.length === 0 ? this.whole[id] === 1 : readUtf8(this.pending, bytes.of(id)) !== undefined;
      if (fits) going = true;
      else allowed[id] = 0;
    }
    if (!going && allowed[vocabulary] === 0) {
      throw new PromptError('SCHEMA_TOKENIZER', "This model's tokenizer has no token with which an answer by this schema could go on.");
    }
    this.allowed = allowed;
    this.ended = !going;
  }

  dispose(): void {
    this.matcher.dispose();
  }
}
