import { TokenDraw } from '../../lib/draw';
import {
  frequencyPenalty,
  type LogitsContext,
  type LogitsProcessor,
  logitBias,
  repetitionPenalty,
  suppressTokens,
} from '../../lib/logits_processors';
import { logSumExp, tokenLogprobs } from '../../lib/logprobs';
import { Random } from '../../lib/random';
import { Sampler, type SamplingOptions } from '../../lib/sampler';
import { readJson } from '../support/recorded';

/** Minus infinity is null. */
type Row = readonly (number | null)[];

interface Recorded {
  readonly prompt: readonly number[];
  readonly written: readonly number[];
  readonly biases: Readonly<Record<number, number>>;
  readonly suppressed: readonly number[];
  readonly ends: readonly number[];
  readonly processed: readonly {
    readonly logits: Row;
    readonly log_softmax: Row;
    readonly repetition: Readonly<Record<string, Row>>;
    readonly bias: Row;
    readonly suppress: Row;
    readonly minimum: Readonly<Record<string, Row>>;
  }[];
  readonly warped: readonly { readonly logits: Row; readonly options: SamplingOptions; readonly probabilities: Row }[];
}

const recorded = readJson<Recorded>('logits.json');
const request = { request: 0, promptIds: Int32Array.from(recorded.prompt) };
const context: LogitsContext = { ...request, ids: recorded.written };

function rowOf(row: Row): Float32Array {
  return Float32Array.from(row, (value) => value ?? Number.NEGATIVE_INFINITY);
}

function expectRow(actual: Float32Array, expected: Row): void {
  expect(actual).toHaveLength(expected.length);
  for (const [i, value] of expected.entries()) {
    if (value === null) expect(actual[i]).toBe(Number.NEGATIVE_INFINITY);
    else expect(actual[i]).toBeCloseTo(value, 5);
  }
}

/** Top-k (with its ties), then top-p, by definition: likeliest first. */
function chosenBySorting(logits: Float32Array, { temperature = 1, topK = 0, topP = 1 }: SamplingOptions): number[] {
  const order = Array.from(logits.keys()).sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
  const least = logits[order[(topK || order.length) - 1] ?? -1] ?? Number.NEGATIVE_INFINITY;
  const ids = order.filter((id) => (logits[id] as number) >= least);
  const likelihoods = ids.map((id) => Math.exp(((logits[id] as number) - (logits[ids[0] as number] as number)) / temperature));
  const total = likelihoods.reduce((sum, one) => sum + one, 0);
  let mass = 0;
  return ids.filter((_, i) => {
    const before = mass;
    mass += likelihoods[i] as number;
    return i === 0 || topP === 1 || before < topP * total;
  });
}

function run(processor: LogitsProcessor, logits: Row): Float32Array {
  const row = rowOf(logits);
  return processor(row, context) ?? row;
}

describe("transformers' logits processors, recorded", () => {
  it.each(recorded.processed.map((one, i) => [i, one] as const))('row %i', (_i, one) => {
    for (const [penalty, expected] of Object.entries(one.repetition)) expectRow(run(repetitionPenalty(Number(penalty)), one.logits), expected);
    expectRow(run(logitBias(recorded.biases), one.logits), one.bias);
    expectRow(run(suppressTokens(recorded.suppressed), one.logits), one.suppress);
  });

  it.each(recorded.processed.map((one, i) => [i, one] as const))(
    'the shortest answer: end tokens are ruled out until it is reached (row %i)',
    (_i, one) => {
      for (const [minimum, expected] of Object.entries(one.minimum)) {
        let seen: Float32Array | undefined;
        const look: LogitsProcessor = (logits) => {
          seen = logits.slice();
        };
        new TokenDraw({ minNewTokens: Number(minimum), logitsProcessor: look }, request, new Set(recorded.ends)).next(
          rowOf(one.logits),
          recorded.written,
        );
        expectRow(seen as Float32Array, expected);
      }
    },
  );
});

describe("transformers' temperature, top-k and top-p, recorded", () => {
  it.each(recorded.warped.map(({ options, ...one }) => [JSON.stringify(options), options, one] as const))(
    '%s keeps the same tokens with the same probabilities',
    (_name, options, { logits, probabilities }) => {
      const { ids, weights } = new Sampler(options).candidates(rowOf(logits));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const expected = probabilities.map((probability) => probability ?? 0);
      expect([...ids].sort((a, b) => a - b)).toEqual(expected.flatMap((probability, id) => (probability > 0 ? [id] : [])));
      for (const [i, id] of ids.entries()) expect((weights[i] as number) / total).toBeCloseTo(expected[id] as number, 5);
    },
  );

  it('chooses from a large vocabulary what sorting all of it would choose', () => {
    const random = new Random(11);
    for (const [options, spread] of [
      [{ temperature: 0.7, topK: 50 }, 3],
      [{ temperature: 0.7, topK: 40, topP: 0.9 }, 3],
      [{ temperature: 1, topP: 0.95 }, 3],
      [{ temperature: 1.5, topP: 0.999 }, 0.1], // nearly flat
      [{ temperature: 1e-300, topP: 0.5 }, 3],
      [{ temperature: 1, topK: 60_000, topP: 1 }, 3],
      [{ temperature: 1, topK: 30_000, topP: 0.8 }, 0.5],
    ] as const) {
      const logits = Float32Array.from({ length: 50_000 }, () => Math.fround(Math.round(random.normal() * spread * 64) / 64)); // with ties
      for (let i = 0; i < 1000; i++) logits[random.below(logits.length)] = Number.NEGATIVE_INFINITY;
      const expected = chosenBySorting(logits, options);
      expect([...new Sampler(options).candidates(logits).ids]).toEqual(expected);
    }
  });

  it('draws as often as the probabilities say, and never what was ruled out', () => {
    const logits = Float32Array.from([0, Math.log(3), Number.NEGATIVE_INFINITY, Math.log(4), Number.NEGATIVE_INFINITY]);
    const sampler = new Sampler({ temperature: 1, seed: 9 });
    const counts = [0, 0, 0, 0, 0];
    for (let i = 0; i < 8000; i++) {
      const id = sampler.next(logits);
      counts[id] = (counts[id] as number) + 1;
    }
    expect([counts[2], counts[4]]).toEqual([0, 0]);
    for (const [id, count] of [
      [0, 1000],
      [1, 3000],
      [3, 4000],
    ] as const)
      expect(Math.abs((counts[id] as number) - count)).toBeLessThan(200); // 4 sigma
  });
});

describe('log-probabilities', () => {
  it.each(recorded.processed.map((one, i) => [i, one] as const))(
    "are torch's log-softmax, the alternatives best first (row %i)",
    (_i, { logits, log_softmax }) => {
      const { id, logprob, top } = tokenLogprobs(rowOf(logits), 4, 7);
      expect(id).toBe(4);
      expect(logprob).toBeCloseTo(log_softmax[4] as number, 5);
      const order = log_softmax.map((value, other) => [value as number, other] as const).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
      expect(top.map((one) => one.id)).toEqual(order.slice(0, 7).map(([, other]) => other));
      for (const [i, one] of top.entries()) expect(one.logprob).toBeCloseTo(order[i]?.[0] as number, 5);
      expect(tokenLogprobs(rowOf(logits), 4, 0).top).toEqual([]);
    },
  );

  it('stand large logits and ruled-out tokens', () => {
    expect(logSumExp(Float32Array.from([1e30, 0]))).toBe(Math.fround(1e30));
    expect(logSumExp(Float32Array.from([-1e4, -1e4, Number.NEGATIVE_INFINITY]))).toBeCloseTo(-1e4 + Math.log(2), 9);
  });

  it("are the model's own, whatever processors and temperature make of them", () => {
    const logits = rowOf(recorded.processed[0]?.logits as Row);
    const before = logits.slice();
    const { id, logprobs } = new TokenDraw({ logprobs: 3, temperature: 0.3, logitsProcessor: [logitBias({ 6: 100 })] }, request, new Set()).next(
      logits,
      [],
    );
    expect(id).toBe(6);
    expect(logprobs?.logprob).toBeCloseTo(recorded.processed[0]?.log_softmax[6] as number, 5);
    expect(logits).toEqual(before);
  });
});

describe('processors of a caller', () => {
  const draw = (logitsProcessor: LogitsProcessor | readonly LogitsProcessor[], logits = Float32Array.from([1, 2, 3, 0])) =>
    new TokenDraw({ logitsProcessor }, request, new Set()).next(logits, [2, 2, 1]).id;

  it('run in order, each on what the one before left, in place or returned', () => {
    expect(draw([logitBias({ 2: -10 }), (logits) => logits.map((logit) => -logit), suppressTokens([2])])).toBe(3);
  });

  it('see what was written and the prompt', () => {
    let seen: LogitsContext | undefined;
    draw((_logits, given) => {
      seen = given;
    });
    expect(seen).toEqual({ request: 0, promptIds: request.promptIds, ids: [2, 2, 1] });
  });

  it("OpenAI's penalties count what was written: once for presence, each time for frequency", () => {
    const logits = Float32Array.from([1, 2, 3, 0]);
    frequencyPenalty({ frequency: 0.5, presence: 0.25 })(logits, { ...context, ids: [2, 2, 1] });
    expect([...logits]).toEqual([1, 1.25, 1.75, 0]);
  });

  it.each<[string, LogitsProcessor, RegExp]>([
    ['another length', () => new Float32Array(3), /processor 0 left 3 logits; the vocabulary has 4/],
    ['nothing to draw', (logits) => void logits.fill(Number.NEGATIVE_INFINITY), /minus infinity for every token/],
    ['NaN', (logits) => void logits.fill(Number.NaN, 0, 1), /NaN/],
    ['plus infinity', (logits) => void logits.fill(Number.POSITIVE_INFINITY, 0, 1), /plus infinity/],
    ['a promise', (() => Promise.resolve()) as unknown as LogitsProcessor, /undefined logits/],
  ])('that leave %s are refused by name', (_what, processor, message) => {
    const error = (() => {
      try {
        return draw(processor);
      } catch (reason) {
        return reason;
      }
    })();
    expect(error).toMatchObject({ name: 'PromptError', code: 'BAD_LOGITS_PROCESSOR', message: expect.stringMatching(message) });
  });

  it.each<[string, () => unknown]>([
    ['a penalty of 0', () => repetitionPenalty(0)],
    ['a penalty that is no number', () => repetitionPenalty(Number.NaN)],
    ['an infinite frequency', () => frequencyPenalty({ frequency: Number.POSITIVE_INFINITY })],
    ['a bias of plus infinity', () => logitBias({ 1: Number.POSITIVE_INFINITY })],
    ['a bias of a token by name', () => logitBias({ yes: 1 } as Record<number, number>)],
    ['a negative id', () => suppressTokens([-1])],
    ['an id past the vocabulary', () => draw(suppressTokens([4]))],
    ['a bias past the vocabulary', () => draw(logitBias({ 9: 1 }))],
  ])('%s is refused', (_what, run) => {
    expect(run).toThrow(expect.objectContaining({ code: 'BAD_SAMPLING' }));
  });
});

describe("a model's logits that are no numbers", () => {
  it.each([
    ['NaN', [0, Number.NaN]],
    ['plus infinity', [0, Number.POSITIVE_INFINITY]],
    ['only minus infinity', [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]],
  ])('%s is an error, not token 0', (_what, row) => {
    expect(() => new TokenDraw({}, request, new Set()).next(Float32Array.from(row), [])).toThrow(
      expect.objectContaining({ code: 'LOGITS_NOT_FINITE' }),
    );
  });
});
