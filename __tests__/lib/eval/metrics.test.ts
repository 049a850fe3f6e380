import { type EvalQuestion, METRICS, type MetricName, type ScoredAnswer } from '../../../lib/eval';
import { addCounts, type Counts } from '../../../lib/eval/metric';
import { chosenLetter } from '../../../lib/eval/metrics/choice';
import { mmeAnswer } from '../../../lib/eval/metrics/mme';
import { popeAnswer } from '../../../lib/eval/metrics/pope';
import { normalizeTextVqaAnswer, normalizeVqaAnswer } from '../../../lib/eval/metrics/vqa';

let ids = 0;
function question(fields: Partial<EvalQuestion>): EvalQuestion {
  return { id: String(ids++), group: 'all', text: '', reference: '', ...fields };
}

/** Figures of answers, each image's together. */
function figures(name: MetricName, images: readonly (readonly (Partial<EvalQuestion> & { said: string })[])[]) {
  const metric = METRICS[name];
  const counts = images.map((answers): Counts => {
    const scored = answers.map(({ said, ...fields }): ScoredAnswer => {
      const asked = question(fields);
      return { ...asked, said, score: metric.score(said, asked) };
    });
    return metric.counts(scored);
  });
  const sum = addCounts(counts);
  const details = Object.entries(metric.details?.(sum) ?? {}).map(([key, { value }]) => [key, value] as const);
  return { value: metric.value(sum), details: Object.fromEntries(details) };
}

describe("VQA's answers", () => {
  // Recorded from the released Python evaluation and from the processor of M4C's evaluator.
  it.each([
    ["The dog's  bowl", "dog's bowl", "dog 's bowl"],
    ['two', '2', '2'],
    ['None', '0', '0'],
    ['1,000 people', '1000 people', '1000 people'],
    ['3.5', '3.5', '3.5'],
    ['U.S.', 'us', 'us'],
    ['t-shirt', 't shirt', 't shirt'],
    ['left/right', 'left right', 'left right'],
    ['x , y', 'x y', 'x y'],
    ['dont', "don't", "don't"],
    ["hed've", "he'd've", "he'd've"],
    ["somebody'd", 'somebodyd', 'somebodyd'],
    ["'ow'sat", "'ow's'at", "'ow 'sat"],
    ['What? yes!', 'what yes', 'what yes'],
    ['a\tb\nc', 'b c', 'b c'],
    ['(Ten) apples', '10 apples', '10 apples'],
    ['...', '', ''],
    ['1,5 a-b', '15 ab', '15 b'],
  ])('%j is compared as %j, and in TextVQA as %j', (text, vqa, textVqa) => {
    expect(normalizeVqaAnswer(text)).toBe(vqa);
    expect(normalizeTextVqaAnswer(text)).toBe(textVqa);
  });

  const people = (...counts: [string, number][]): string[] => counts.flatMap(([answer, count]) => new Array<string>(count).fill(answer));

  // Recorded in the same way, the model's answer first through the processor.
  it.each([
    ['red', people(['red', 3], ['dark red', 7]), 0.9, 0.9],
    ['Red.', people(['red', 2], ['dark red', 8]), 0.6, 0.6],
    ['Red', people(['red', 10]), 1, 1],
    ['2', people(['two', 4], ['three', 6]), 1, 1],
    ['two', people(['2', 10]), 1, 1],
    ['the dog', people(['dog', 1], ['cat', 9]), 0.3, 0.3],
    ['Yes', people(['yes', 10]), 1, 1],
    ['t-shirt', people(['t-shirt', 10]), 0, 1],
    ['green', people(['red', 9], ['dark red', 1]), 0, 0],
  ])('%j beside %j is worth %d, in TextVQA %d', (said, reference, vqa, textVqa) => {
    expect(METRICS.vqa.score(said, question({ reference }))).toBeCloseTo(vqa, 12);
    expect(METRICS.textvqa.score(said, question({ reference }))).toBeCloseTo(textVqa, 12);
  });
});

describe('POPE', () => {
  it.each([
    ['Yes', 'yes'],
    ['No, there is no dog.', 'no'],
    ['There is not. Yes.', 'no'],
    ['Nothing of that kind', 'yes'],
    ['NO', 'yes'],
    ['', 'yes'],
  ] as const)('takes %j for %s, as the released script', (said, answer) => expect(popeAnswer(said)).toBe(answer));

  it('gives F1 of each split and the mean of the three, not F1 of all', () => {
    const ask = (group: string, outcomes: readonly [string, string][]) => outcomes.map(([said, reference]) => ({ group, said, reference }));
    const found = figures('pope', [
      ask('random', [
        ['yes', 'yes'],
        ['yes', 'yes'],
        ['yes', 'no'],
        ['no', 'yes'],
      ]), // TP 2, FP 1, FN 1
      ask('popular', [
        ['no', 'no'],
        ['yes', 'yes'],
      ]),
      ask('adversarial', [
        ['no', 'yes'],
        ['no', 'no'],
      ]),
    ]);
    expect(found.details).toMatchObject({ 'random precision': 2 / 3, 'random recall': 2 / 3, 'random accuracy': 0.5, 'random yes ratio': 0.75 });
    expect(found.details['random F1']).toBeCloseTo(2 / 3, 12);
    expect(found.details).toMatchObject({ 'popular F1': 1, 'adversarial F1': 0, 'adversarial accuracy': 0.5 });
    expect(found.value).toBeCloseTo((2 / 3 + 1 + 0) / 3, 12);
  });
});

describe('MME', () => {
  it.each([
    ['Yes', 'yes'],
    ['no.', 'no'],
    ['Yes, it is', 'yes'],
    ['It is not', 'other'],
    ['I know', 'other'],
    ['A no', 'no'],
  ] as const)('takes %j for %s, by its first four letters', (said, answer) => expect(mmeAnswer(said)).toBe(answer));

  it('adds the percentage of right answers and that of images with both right, by task', () => {
    const image = (task: string, name: string, answers: readonly [string, string]) =>
      [['yes', answers[0]] as const, ['no', answers[1]] as const].map(([reference, said]) => ({ group: task, bundle: name, reference, said }));
    const { value, details } = figures('mme', [
      image('existence', 'a', ['yes', 'no']),
      image('existence', 'b', ['yes', 'yes']),
      image('OCR', 'c', ['maybe', 'no']),
      image('code_reasoning', 'd', ['Yes', 'No']),
    ]);
    expect(details).toEqual({ existence: 75 + 50, OCR: 50, code_reasoning: 200, perception: 175, cognition: 200 });
    expect(value).toBe(375);
  });
});

describe('multiple choice', () => {
  it.each([
    ['B', 'B'],
    [' B ', 'B'],
    ['B.', 'B'],
    ['B. a dog', 'B'],
    ['(B)', 'B'],
    ['The answer is B.', 'B'],
    ['A dog', undefined],
    ['b', undefined],
    ['E', undefined],
    ['', undefined],
  ])('reads %j as %s of four', (said, letter) => expect(chosenLetter(said, 4)).toBe(letter));

  it('counts a question that is asked with rotated choices once, right when always right', () => {
    const asked = (bundle: string, ...said: string[]) => said.map((one) => ({ bundle, reference: 'A', choices: 4, said: one }));
    const { value, details } = figures('choice', [asked('1', 'A', 'A', 'A', 'A'), asked('2', 'A', 'A', 'B', 'A'), asked('3', 'A')]);
    expect(value).toBeCloseTo(2 / 3, 12);
    expect(details).toEqual({ 'each answer': 8 / 9 });
  });

  it('has one accuracy where nothing is rotated', () => {
    expect(
      figures('choice', [
        [
          { reference: 'A', choices: 2, said: 'A' },
          { reference: 'B', choices: 2, said: 'A' },
        ],
      ]),
    ).toEqual({ value: 0.5, details: {} });
  });
});

it('GQA wants the very word, whatever its capitals and its full stop', () => {
  expect(METRICS.gqa.score('Red.', question({ reference: 'red' }))).toBe(1);
  expect(METRICS.gqa.score('dark red', question({ reference: 'red' }))).toBe(0);
});

it('a scene wants the very word', () => {
  expect(METRICS.word.score('a', question({ reference: 'A' }))).toBe(0);
  expect(METRICS.word.score('A', question({ reference: 'A' }))).toBe(1);
});
