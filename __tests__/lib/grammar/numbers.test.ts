import fc from 'fast-check';
import { numberRules } from '../../../lib/grammar/numbers';
import { loadXgrammar } from '../../../lib/grammar/xgrammar_node';

const loaded = loadXgrammar();

/** Whether the rules take a text, by XGrammar's own matching. */
async function takes(rules: string, texts: readonly string[]): Promise<boolean[]> {
  const { xgrammar } = await loaded;
  const grammar = await xgrammar.Grammar.fromEBNF(`root ::= n\n${rules}\n`);
  const results: boolean[] = [];
  for (const text of texts) results.push(await xgrammar.Testings.isGrammarAcceptString(grammar, text));
  grammar.dispose();
  return results;
}

/** Whole numbers and decimals as JSON writes them, many of them close to each other. */
const decimal = fc
  .tuple(fc.boolean(), fc.oneof(fc.nat({ max: 30 }), fc.nat({ max: 99_999 })), fc.option(fc.stringMatching(/^[0-9]{1,4}$/), { nil: undefined }))
  .map(([negative, whole, fraction]) => `${negative ? '-' : ''}${whole}${fraction === undefined ? '' : `.${fraction}`}`)
  .filter((text) => !/^-0(\.0+)?$/.test(text));
const bound = fc.record({ value: decimal.map(Number), open: fc.boolean() });

describe('numbers of a range, digit by digit', () => {
  it('are taken if and only if they are in it', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.option(bound, { nil: undefined }),
        fc.option(bound, { nil: undefined }),
        fc.array(decimal, { minLength: 10, maxLength: 30 }),
        async (low, high, others) => {
          const texts = [
            ...others,
            ...[low, high].flatMap((one) => (one ? [one.value, one.value + 1, one.value - 1].map((value) => String(Number(value.toFixed(4)))) : [])),
          ].filter((text) => !text.includes('e'));
          const inside = (value: number) =>
            (!low || (low.open ? value > low.value : value >= low.value)) && (!high || (high.open ? value < high.value : value <= high.value));
          const rules = numberRules('n', { integer: false, low, high });
          if (rules === undefined) expect((low?.value as number) >= (high?.value as number)).toBe(true);
          else expect(await takes(rules, texts)).toEqual(texts.map((text) => inside(Number(text))));
        },
      ),
      { numRuns: 60 },
    );
  });

  it.each<[string, boolean, number, number, readonly string[], readonly string[]]>([
    ['whole ones', true, 3, 120, ['3', '9', '10', '99', '100', '119', '120'], ['2', '121', '3.0', '03', '1', '1000', '-3', '']],
    ['across zero', true, -12, 5, ['-12', '-1', '0', '5'], ['-13', '6', '-0', '-']],
    ['below zero', false, -1.5, -0.25, ['-1.5', '-1', '-0.25', '-0.3', '-1.4999'], ['-1.51', '-0.2', '-0.2499', '0', '1']],
    ['of the unit interval', false, 0, 1, ['0', '0.5', '1', '1.0', '0.000001'], ['1.000001', '1.8765', '2', '-0.1', '0.', '.5', '1e0']],
    ['of one', false, 2.5, 2.5, ['2.5', '2.50'], ['2.51', '2.4', '2', '3']],
    [
      'of every float that is whole',
      true,
      Number.MIN_SAFE_INTEGER,
      Number.MAX_SAFE_INTEGER,
      ['0', '999999999999999', '-999999999999999'],
      ['9999999999999999', '1.5'],
    ],
    ['tiny', false, 1e-7, 2e-7, ['0.0000001', '0.0000002'], ['0', '0.1', '0.00000021']],
  ])('%s', async (_what, integer, low, high, inside, outside) => {
    const closed = (value: number) => ({ value, open: false });
    const rules = numberRules('n', { integer, low: closed(low), high: closed(high) }) as string;
    expect(await takes(rules, [...inside, ...outside])).toEqual([...inside.map(() => true), ...outside.map(() => false)]);
  });
});
