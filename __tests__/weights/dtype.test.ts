import { crc32 } from 'node:zlib';
import { bytesOf, fromFloat32, toFloat32 } from '../../weights/dtype';
import recorded from '../fixtures/halves.json';

const u16 = (...values: number[]): Uint8Array => new Uint8Array(Uint16Array.from(values).buffer);
const half = (...values: number[]): number[] => [...new Uint16Array(fromFloat32('F16', Float32Array.from(values)).bytes.buffer)];
const brain = (...values: number[]): number[] => [...new Uint16Array(fromFloat32('BF16', Float32Array.from(values)).bytes.buffer)];

describe('float16', () => {
  it('reads the corners of IEEE 754 as published', () => {
    const values = toFloat32('F16', u16(0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x0400, 0x03ff, 0x0001, 0x7c00, 0xfc00, 0x3555));
    expect([...values]).toEqual([0, -0, 1, -2, 65504, 2 ** -14, 1023 * 2 ** -24, 2 ** -24, Infinity, -Infinity, 0.333251953125]);
    expect(Object.is(values[1], -0)).toBe(true);
    expect(toFloat32('F16', u16(0x7e00))[0]).toBeNaN();
  });

  it('writes what it read: all 65,536 patterns come back (NaN made quiet)', () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const { bytes, overflows } = fromFloat32('F16', toFloat32('F16', new Uint8Array(all.buffer)));
    const back = new Uint16Array(bytes.buffer);
    expect(overflows).toBe(0);
    for (let i = 0; i < 65536; i++) {
      const nan = (i & 0x7fff) > 0x7c00;
      if (back[i] !== (nan ? i | 0x200 : i)) throw new Error(`pattern ${i.toString(16)} came back as ${back[i]?.toString(16)}`);
    }
  });

  it('rounds every midpoint between neighbours to the even one, and its neighbours to the nearer', () => {
    const grid = toFloat32('F16', new Uint8Array(Uint16Array.from({ length: 0x7c00 }, (_, i) => i).buffer));
    const points = new Float32Array(0x7bff * 3);
    for (let i = 0; i < 0x7bff; i++) {
      const middle = (grid[i]! + grid[i + 1]!) / 2; // exact in float32
      points.set([middle * (1 - 2 ** -22), middle, middle * (1 + 2 ** -22)], i * 3);
    }
    const rounded = new Uint16Array(fromFloat32('F16', points).bytes.buffer);
    for (let i = 0; i < 0x7bff; i++) {
      expect([rounded[3 * i], rounded[3 * i + 1], rounded[3 * i + 2]]).toEqual([i, i % 2 === 0 ? i : i + 1, i + 1]);
    }
  });

  it('counts finite values that become infinite, and only those', () => {
    const { overflows } = fromFloat32('F16', Float32Array.from([65504, 65519, 65520, -1e9, Infinity, -Infinity, NaN]));
    expect(overflows).toBe(2);
    expect(half(65519, 65520, -1e9)).toEqual([0x7bff, 0x7c00, 0xfc00]);
    expect(half(2 ** -25, 2 ** -25 * 1.0000002, -(2 ** -26))).toEqual([0, 1, 0x8000]);
  });
});

describe('bfloat16', () => {
  it('rounds to nearest, ties to even, and keeps NaN and infinity', () => {
    expect(brain(1, -2, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, Infinity, -Infinity, -0)).toEqual([
      0x3f80, 0xc000, 0x3f80, 0x3f82, 0x3f81, 0x7f80, 0xff80, 0x8000,
    ]);
    const nan = new Float32Array(Uint32Array.of(0x7f800001, 0xffffffff).buffer); // payload only in the bits that are cut off, and all bits
    const { bytes } = fromFloat32('BF16', nan);
    expect([...toFloat32('BF16', bytes)]).toEqual([NaN, NaN]);
  });

  it('counts finite values that become infinite', () => {
    const largest = new Float32Array(Uint32Array.of(0x7f7f7fff, 0x7f7f8000, 0x7f7fffff, 0x7f800000).buffer);
    expect(fromFloat32('BF16', largest).overflows).toBe(2);
  });

  it('comes back unchanged through float32', () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i).filter((x) => (x & 0x7fff) <= 0x7f80);
    const back = fromFloat32('BF16', toFloat32('BF16', new Uint8Array(all.buffer))).bytes;
    expect(Buffer.compare(back, new Uint8Array(all.buffer))).toBe(0);
  });
});

describe('two million numbers come out as from numpy and torch', () => {
  const withoutNaN = (values: Float32Array): Float32Array => values.map((value) => (Number.isNaN(value) ? 0 : value));
  const float32 = (bits: (i: number) => number): Float32Array =>
    withoutNaN(new Float32Array(Uint32Array.from({ length: 1e6 }, (_, i) => bits(i)).buffer));
  const scatter = (i: number): number => Math.imul(i, 0x9e3779b1) >>> 0;
  const inputs = { scattered: float32(scatter), narrow: float32((i) => (scatter(i) & 0x807fffff) | ((100 + (i % 45)) << 23)) };

  it('float16 to float32', () => {
    const all = toFloat32('F16', new Uint8Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer));
    expect(crc32(new Uint8Array(withoutNaN(all).buffer))).toBe(recorded.halfToFloat);
  });

  it.each(['scattered', 'narrow'] as const)('%s float32 to float16 and to bfloat16', (name) => {
    expect(crc32(fromFloat32('F16', inputs[name]).bytes)).toBe(recorded[`${name}ToHalf`]);
    expect(crc32(fromFloat32('BF16', inputs[name]).bytes)).toBe(recorded[`${name}ToBrain`]);
  });
});

it('reads a tensor that starts at an odd byte', () => {
  const shifted = new Uint8Array(9);
  shifted.set(new Uint8Array(Float32Array.of(1.5, -3).buffer), 1);
  expect([...toFloat32('F32', shifted.subarray(1))]).toEqual([1.5, -3]);
  expect([...toFloat32('F32', Buffer.from(shifted.buffer).subarray(1))]).toEqual([1.5, -3]);
});

it('reads integers with their signs', () => {
  expect([...toFloat32('I8', Uint8Array.of(255, 128, 127))]).toEqual([-1, -128, 127]);
  expect([...toFloat32('I64', new Uint8Array(BigInt64Array.of(-5n, 2n ** 40n).buffer))]).toEqual([-5, 2 ** 40]);
  expect([...toFloat32('U32', new Uint8Array(Uint32Array.of(4294967295).buffer))]).toEqual([4294967296]);
  expect(bytesOf('BF16')).toBe(2);
});
