import type { EvalQuestion, Reference } from '../data_set';
import { type Metric, meanCounts, meanValue } from '../metric';

const NUMBERS: ReadonlyMap<string, string> = new Map(
  ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'].map((word, i) => [word, String(i)] as const),
).set('none', '0');
const ARTICLES: ReadonlySet<string> = new Set(['a', 'an', 'the']);
/** In the order of the released evaluation. */
const PUNCTUATION = [...';/[]"{}()=+\\_-><@`,?!'];
const DIGIT_COMMA = /\p{Nd},\p{Nd}/u;
const FULL_STOP = /\.(?!\p{Nd})/gu;
/** The released code gives a flag where the number of replacements stands, so that no more than these are made. */
const FULL_STOPS_REMOVED = 32;

const SHORT_FORMS =
  "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't " +
  "it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't " +
  "shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd " +
  "there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd " +
  "where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've " +
  "you'll you're you've";

/** Each short form by what is left of it without one of its apostrophes; and what the released table has that looks like a slip. */
const CONTRACTIONS: ReadonlyMap<string, string> = new Map([
  ...SHORT_FORMS.split(' ').flatMap((form) =>
    [...form.matchAll(/'/g)].map(({ index }) => [form.slice(0, index) + form.slice(index + 1), form] as const),
  ),
  ["somebody'd", 'somebodyd'] as const,
]);

function withoutPunctuation(text: string): string {
  const thousands = DIGIT_COMMA.test(text);
  let out = text;
  for (const mark of PUNCTUATION) {
    const atWordEnd = text.includes(`${mark} `) || text.includes(` ${mark}`);
    out = out.replaceAll(mark, atWordEnd || thousands ? '' : ' ');
  }
  let removed = 0;
  return out.replace(FULL_STOP, (stop) => (removed++ < FULL_STOPS_REMOVED ? '' : stop));
}

function words(text: string): string {
  return text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '')
    .map((word) => NUMBERS.get(word) ?? word)
    .filter((word) => !ARTICLES.has(word))
    .map((word) => CONTRACTIONS.get(word) ?? word)
    .join(' ');
}

function oneLine(text: string): string {
  return text.replace(/[\n\t]/g, ' ').trim();
}

/** An answer as VQA's evaluation compares it: without punctuation and articles, small letters, numbers up to ten as digits, short forms with apostrophes. */
export function normalizeVqaAnswer(text: string): string {
  return words(withoutPunctuation(oneLine(text)));
}

/** As TextVQA's evaluation compares it: as VQA's, after all commas and question marks are gone and "'s" stands apart. */
export function normalizeTextVqaAnswer(text: string): string {
  const apart = text.toLowerCase().replaceAll(',', '').replaceAll('?', '').replaceAll("'s", " 's");
  return normalizeVqaAnswer(apart.trim());
}

/** min(1, agreeing / 3), averaged over leaving out each of the people in turn. */
export function agreement(said: string, answers: readonly string[]): number {
  const agreeing = answers.filter((answer) => answer === said).length;
  const scores = answers.map((answer) => Math.min(1, (agreeing - Number(answer === said)) / 3));
  return scores.reduce((sum, score) => sum + score, 0) / answers.length;
}

function listOf(reference: Reference): readonly string[] {
  return typeof reference === 'string' ? [reference] : reference;
}

/**
 * VQA's soft accuracy (Goyal et al. 2017, the released Python evaluation): where the people differ, their answers are normalised. The model's answer is
 * normalised before, as LLaVA does it with what it submits; else "Yes" would be wrong where all people say "yes".
 */
export const vqaMetric: Metric = {
  title: 'VQA accuracy',
  unit: 'share',
  kind: 'mean',
  score(said, { reference }: EvalQuestion) {
    const answer = normalizeTextVqaAnswer(said);
    const answers = listOf(reference).map(oneLine);
    if (new Set(answers).size === 1) return agreement(answer, answers);
    return agreement(normalizeVqaAnswer(answer), answers.map(normalizeVqaAnswer));
  },
  counts: meanCounts,
  value: meanValue,
};

/** TextVQA's soft accuracy (Singh et al. 2019, the evaluator of M4C that LLaVA has): everything is normalised. */
export const textVqaMetric: Metric = {
  ...vqaMetric,
  score: (said, { reference }) => agreement(normalizeTextVqaAnswer(said), listOf(reference).map(normalizeTextVqaAnswer)),
};
