const MAX_U64 = 2n ** 64n - 1n;
const MAX_POWER = 308;

/**
 * Whether serde_json, with which the safetensors crate reads headers, takes a JSON number for one within float64's range.
 *
 * It multiplies up to 64 bits of leading digits by a power of ten, both rounded, so that it calls some numbers infinite that float64 can just hold
 * (1.7976931348623158e308, the largest of them). The crate refuses a file for such a number even in a field that no reader knows, and so do we.
 */
export function fitsFloat64(source: string): boolean {
  if (source.length < 5 || Math.abs(Number(source)) < 1e308) return true; // four characters reach 9e99
  const [, whole = '', fraction = '', exponent = '0'] = /^-?([0-9]+)\.?([0-9]*)[eE]?(.*)$/.exec(source) ?? [];
  const integer = leadingDigits(0n, whole);
  const decimal = leadingDigits(integer.value, fraction);
  const power = Number(exponent) + whole.length - integer.length - decimal.length;
  return decimal.value === 0n || (power <= MAX_POWER && Number.isFinite(Number(decimal.value) * Number(`1e${power}`)));
}

/** Appends digits to `value` while it fits into 64 bits. */
function leadingDigits(start: bigint, digits: string): { value: bigint; length: number } {
  let value = start;
  for (let length = 0; length < digits.length; length++) {
    if (value === 0n && digits[length] === '0') continue;
    const next = value * 10n + BigInt(digits[length] as string);
    if (next > MAX_U64) return { value, length };
    value = next;
  }
  return { value, length: digits.length };
}
