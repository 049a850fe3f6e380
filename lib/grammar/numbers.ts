/** Bounds of a number in a schema. */
export interface NumberRange {
  readonly integer: boolean;
  readonly low: Bound | undefined;
  readonly high: Bound | undefined;
}

export interface Bound {
  readonly value: number;
  /** Whether the bound itself is outside. */
  readonly open: boolean;
}

/** Digits before the point, so that every number keeps its digits as a float64. */
const WHOLE_DIGITS = 15;
/** Digits behind the point, if the bounds have no more and there are 15 in all. */
const FRACTION_DIGITS = 6;
const LARGEST = 10 ** WHOLE_DIGITS - 1;

/** A bound as digits: before the point, and behind it without zeros at the end. */
interface Digits {
  readonly whole: string;
  readonly fraction: string;
  readonly open: boolean;
}

/**
 * EBNF rules for the decimal numbers of a range, without exponent; the first one, of this name, is the whole. Undefined where no number is in the range.
 * Written digit by digit: as long as the digits are those of a bound, the next one is bounded too.
 */
export function numberRules(name: string, { integer, low, high }: NumberRange): string | undefined {
  const least = clamp(low, -LARGEST);
  const most = clamp(high, LARGEST);
  if (least.value > LARGEST || most.value < -LARGEST) return undefined;
  const rules: string[] = [];
  const alternatives: string[] = [];
  if (most.value >= 0) {
    const positive = new DigitRules(`${name}_p`, rules, integer, digits(least.value < 0 ? ZERO : least), digits(most)).whole();
    if (positive) alternatives.push(positive);
  }
  if (least.value < 0) {
    const smallest = most.value < 0 ? { value: -most.value, open: most.open } : { value: 0, open: true }; // "-0" is left out
    const negative = new DigitRules(`${name}_n`, rules, integer, digits(smallest), digits({ value: -least.value, open: least.open })).whole();
    if (negative) alternatives.push(`"-" ${negative}`);
  }
  return alternatives.length === 0 ? undefined : [`${name} ::= ${alternatives.join(' | ')}`, ...rules].join('\n');
}

const ZERO: Bound = { value: 0, open: false };

/** Numbers of more digits are left out, however far the range goes. */
function clamp(bound: Bound | undefined, limit: number): Bound {
  if (!bound || (limit > 0 ? bound.value > limit : bound.value < limit)) return { value: limit, open: false };
  return bound;
}

function digits({ value, open }: Bound): Digits {
  const plain = String(value).includes('e') ? value.toFixed(20) : String(value);
  const [whole = '0', fraction = ''] = plain.split('.');
  return { whole, fraction: fraction.replace(/0+$/, ''), open };
}

class DigitRules {
  private readonly made = new Map<string, string | undefined>();

  constructor(
    private readonly name: string,
    private readonly rules: string[],
    private readonly integer: boolean,
    private readonly low: Digits,
    private readonly high: Digits,
  ) {}

  /** The name of a rule for all numbers, or undefined where there is none. */
  whole(): string | undefined {
    const lengths = Array.from({ length: this.high.whole.length - this.low.whole.length + 1 }, (_, i) => this.low.whole.length + i);
    const all = lengths.map((length) => this.at(length, 0, length === this.low.whole.length, length === this.high.whole.length));
    return this.rule(
      'all',
      all.filter((one) => one !== undefined),
    );
  }

  /** What may follow after `place` digits of a number with `length` before the point; `tightLow`: so far its digits are those of the lower bound. */
  private at(length: number, place: number, tightLow: boolean, tightHigh: boolean): string | undefined {
    if (!tightLow && !tightHigh && place > 0) return this.free(length, place);
    const key = `${length}_${place}_${Number(tightLow)}${Number(tightHigh)}`;
    if (!this.made.has(key)) this.made.set(key, this.rule(key, this.alternatives(length, place, tightLow, tightHigh)));
    return this.made.get(key);
  }

  private alternatives(length: number, place: number, tightLow: boolean, tightHigh: boolean): string[] {
    const found: string[] = [];
    const behind = place - length;
    if (behind >= 0 && this.mayEnd(behind, tightLow, tightHigh)) found.push('""');
    if (behind >= (this.integer ? 0 : this.fractionDigits(length))) return found;
    const lower = tightLow ? digitAt(this.low, length, place) : Number(place === 0 && length > 1);
    const upper = tightHigh ? digitAt(this.high, length, place) : 9;
    const point = behind === 0 ? '"." ' : '';
    for (const [first, last] of runs(lower, upper, tightLow, tightHigh)) {
      const next = this.at(length, place + 1, tightLow && first === lower, tightHigh && last === upper);
      if (next !== undefined) found.push(`${point}[${first}-${last}] ${next}`);
    }
    return found;
  }

  /** Any digits that are left. */
  private free(length: number, place: number): string {
    const left = Math.max(0, length - place);
    const behind = this.integer ? 0 : this.fractionDigits(length) - Math.max(0, place - length);
    const fraction = place > length ? `[0-9]{0,${behind}}` : `("." [0-9]{1,${behind}})?`;
    return [...(left > 0 ? [`[0-9]{${left}}`] : []), ...(behind > 0 ? [fraction] : [])].join(' ') || '""';
  }

  private fractionDigits(length: number): number {
    const usual = Math.max(0, Math.min(FRACTION_DIGITS, WHOLE_DIGITS - length));
    return Math.max(usual, this.low.fraction.length, this.high.fraction.length);
  }

  private mayEnd(behind: number, tightLow: boolean, tightHigh: boolean): boolean {
    if (tightLow && (behind < this.low.fraction.length || this.low.open)) return false;
    return !(tightHigh && behind >= this.high.fraction.length && this.high.open);
  }

  private rule(key: string, alternatives: readonly string[]): string | undefined {
    if (alternatives.length === 0) return undefined;
    const name = `${this.name}_${key}`;
    this.rules.push(`${name} ::= ${alternatives.join(' | ')}`);
    return name;
  }
}

function digitAt({ whole, fraction }: Digits, length: number, place: number): number {
  return Number(place < length ? whole[place] : (fraction[place - length] ?? '0'));
}

/** Digits that lead to the same state: a bound's own digit stands alone. */
function runs(lower: number, upper: number, tightLow: boolean, tightHigh: boolean): readonly (readonly [number, number])[] {
  const cuts: [number, number][] = [];
  let from = lower;
  let to = upper;
  if (tightLow && from <= to) cuts.push([from, from++]);
  const last: [number, number][] = tightHigh && from <= to ? [[to, to--]] : [];
  if (from <= to) cuts.push([from, to]);
  return [...cuts, ...last];
}
