/** What safetensors can hold and this package can compute with or carry. */
export type Dtype = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U64' | 'U32' | 'U16' | 'U8' | 'BOOL';

/** Floating-point types that weights are stored in. */
export type FloatDtype = 'F32' | 'F16' | 'BF16';

/** Bits of an element. The second group is known to the format, but has no meaning here: such tensors can only be copied as bytes. */
const BITS: ReadonlyMap<string, number> = new Map([
  ...Object.entries({ F64: 64, F32: 32, F16: 16, BF16: 16, I64: 64, I32: 32, I16: 16, I8: 8, U64: 64, U32: 32, U16: 16, U8: 8, BOOL: 8 }),
  ...Object.entries({ C64: 64, F8_E5M2: 8, F8_E4M3: 8, F8_E8M0: 8, F8_E4M3FNUZ: 8, F8_E5M2FNUZ: 8, F6_E2M3: 6, F6_E3M2: 6, F4: 4 }),
]);

const READABLE: ReadonlySet<string> = new Set<Dtype>(['F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'I16', 'I8', 'U64', 'U32', 'U16', 'U8', 'BOOL']);

/** Bits of one element of a type that the safetensors format knows, else undefined. */
export function bitsOf(dtype: string): number | undefined {
  return BITS.get(dtype);
}

/** Bytes of one element. */
export function bytesOf(dtype: Dtype): number {
  return (BITS.get(dtype) as number) / 8;
}

export function isReadable(dtype: string): dtype is Dtype {
  return READABLE.has(dtype);
}

export function isFloat(dtype: string): dtype is FloatDtype | 'F64' {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16' || dtype === 'F64';
}

/** The bytes as an array of `type`, without a copy where their address allows it (a tensor may start at any byte of a file). */
function view<T>(
  type: { new (buffer: ArrayBufferLike, offset: number, length: number): T; readonly BYTES_PER_ELEMENT: number },
  bytes: Uint8Array,
): T {
  const size = type.BYTES_PER_ELEMENT;
  const aligned = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  return new type(aligned.buffer, aligned.byteOffset, bytes.byteLength / size);
}

/** float32 bits of every float16: 256 KiB, made when first needed. */
let halfTable: Uint32Array | undefined;

function halfToFloatTable(): Uint32Array {
  if (halfTable) return halfTable;
  const table = new Uint32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 31;
    let fraction = half & 0x3ff;
    if (exponent === 31) {
      table[half] = sign | 0x7f800000 | (fraction << 13);
    } else if (exponent > 0) {
      table[half] = sign | ((exponent + 112) << 23) | (fraction << 13);
    } else if (fraction > 0) {
      let shift = 0; // a subnormal half is a normal float: move its leading one into the hidden bit
      while ((fraction & 0x400) === 0) {
        fraction <<= 1;
        shift++;
      }
      table[half] = sign | ((113 - shift) << 23) | ((fraction & 0x3ff) << 13);
    } else {
      table[half] = sign;
    }
  }
  halfTable = table;
  return table;
}

/**
 * Elements as float32. F16 and BF16 are exact (NaN stays NaN), F64 and integers beyond 2^24 are rounded to nearest.
 * The result may share memory with `bytes` (F32); it is never written to here.
 */
export function toFloat32(dtype: Dtype, bytes: Uint8Array): Float32Array {
  switch (dtype) {
    case 'F32':
      return view(Float32Array, bytes);
    case 'BF16': {
      const source = view(Uint16Array, bytes);
      const bits = new Uint32Array(source.length);
      for (let i = 0; i < bits.length; i++) bits[i] = (source[i] as number) << 16;
      return new Float32Array(bits.buffer);
    }
    case 'F16': {
      const table = halfToFloatTable();
      const source = view(Uint16Array, bytes);
      const bits = new Uint32Array(source.length);
      for (let i = 0; i < bits.length; i++) bits[i] = table[source[i] as number] as number;
      return new Float32Array(bits.buffer);
    }
    case 'F64':
      return Float32Array.from(view(Float64Array, bytes));
    default:
      return Float32Array.from(toNumbers(dtype, bytes));
  }
}

/** Index of the first element that is NaN or infinite, or -1; looks at the exponent bits, so nothing is converted. Integers are always finite. */
export function firstNotFinite(dtype: Dtype, bytes: Uint8Array): number {
  switch (dtype) {
    case 'F32':
      return view(Uint32Array, bytes).findIndex((bits) => (bits & 0x7f800000) === 0x7f800000);
    case 'BF16':
      return view(Uint16Array, bytes).findIndex((bits) => (bits & 0x7f80) === 0x7f80);
    case 'F16':
      return view(Uint16Array, bytes).findIndex((bits) => (bits & 0x7c00) === 0x7c00);
    case 'F64':
      return view(Float64Array, bytes).findIndex((value) => !Number.isFinite(value));
    default:
      return -1;
  }
}

/** Integers (and booleans, as 0 and 1) as numbers; 64-bit ones beyond 2^53 are rounded to nearest. */
export function toNumbers(dtype: Dtype, bytes: Uint8Array): ArrayLike<number> {
  switch (dtype) {
    case 'I64':
      return Float64Array.from(view(BigInt64Array, bytes), Number);
    case 'U64':
      return Float64Array.from(view(BigUint64Array, bytes), Number);
    case 'I32':
      return view(Int32Array, bytes);
    case 'U32':
      return view(Uint32Array, bytes);
    case 'I16':
      return view(Int16Array, bytes);
    case 'U16':
      return view(Uint16Array, bytes);
    case 'I8':
      return view(Int8Array, bytes);
    case 'U8':
      return bytes;
    case 'BOOL':
      return Uint8Array.from(bytes, (byte) => (byte === 0 ? 0 : 1));
    default:
      return toFloat32(dtype, bytes);
  }
}

/** Elements in their stored form. */
export interface Encoded {
  readonly bytes: Uint8Array;
  /** Finite values that became infinite (F16 ends at 65504). */
  readonly overflows: number;
}

/** float32 to a stored type, rounding to nearest, ties to even; NaN stays NaN (quiet). F32 shares memory with `values`. */
export function fromFloat32(dtype: FloatDtype, values: Float32Array): Encoded {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  if (dtype === 'F32') return { bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength), overflows: 0 };
  const out = new Uint16Array(bits.length);
  let overflows = 0;
  if (dtype === 'BF16') {
    for (let i = 0; i < out.length; i++) {
      const x = bits[i] as number;
      const magnitude = x & 0x7fffffff;
      if (magnitude > 0x7f800000) {
        out[i] = (x >>> 16) | 0x40;
      } else {
        out[i] = (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
        if (magnitude >= 0x7f7f8000 && magnitude < 0x7f800000) overflows++;
      }
    }
  } else {
    for (let i = 0; i < out.length; i++) {
      const x = bits[i] as number;
      const half = halfMagnitude(x & 0x7fffffff);
      out[i] = ((x >>> 16) & 0x8000) | half;
      if (half === 0x7c00 && (x & 0x7fffffff) < 0x7f800000) overflows++;
    }
  }
  return { bytes: new Uint8Array(out.buffer), overflows };
}

/** Float16 bits of a non-negative float32 given by its bits. */
function halfMagnitude(bits: number): number {
  if (bits >= 0x47800000) return bits > 0x7f800000 ? 0x7e00 | ((bits >>> 13) & 0x3ff) : 0x7c00;
  if (bits >= 0x38800000) return (bits - 0x38000000 + 0xfff + ((bits >>> 13) & 1)) >>> 13;
  if (bits < 0x33000000) return 0; // below half of the smallest subnormal
  const shift = 126 - (bits >>> 23); // 14 to 24
  const fraction = (bits & 0x7fffff) | 0x800000;
  const quotient = fraction >>> shift;
  const remainder = fraction & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return remainder > half || (remainder === half && (quotient & 1) === 1) ? quotient + 1 : quotient;
}
