// The arithmetic of products.cc, for the instruction set of the namespace that it is included in.
#include "simd.h"

typedef uint16_t Halves __attribute__((vector_size(16)));
typedef int8_t Bytes __attribute__((vector_size(8)));

static inline Floats Load(const BFloat16* p) {
  Halves v;
  __builtin_memcpy(&v, p, sizeof v);
#if VISPRUNER_AVX2
  return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)v), 16);
#else
  return (Floats)(__builtin_convertvector(v, Words) << 16);
#endif
}

static inline Floats Load(const Float16* p) {
  Halves v;
  __builtin_memcpy(&v, p, sizeof v);
#if VISPRUNER_AVX2
  return (Floats)_mm256_cvtph_ps((__m128i)v);
#else
  // No step has a denormal float32 in it: TensorFlow lets the processor take those for 0 while its operations run.
  const Words bits = __builtin_convertvector(v, Words);
  const Words magnitude = bits & 0x7fff;
  const Words normal = (magnitude << 13) + (112u << 23);                               // the exponent's bias is 127 in place of 15
  const Words denormal = (Words)(__builtin_convertvector((Lanes)magnitude, Floats) * 0x1p-24f);
  const Words special = (Words)(magnitude >= 0x7c00) & 0x7f800000u;  // infinities and NaNs keep their largest exponent
  const Words small = (Words)(magnitude < 0x0400);
  return (Floats)((small & denormal) | (~small & normal) | special | ((bits & 0x8000) << 16));
#endif
}

static inline Floats Load(const int8_t* p) {
#if VISPRUNER_AVX2
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
#else
  Bytes v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_convertvector(__builtin_convertvector(v, Lanes), Floats);
#endif
}

// The last `count` < 8 of a row, zeros behind them.
template <typename T>
static inline Floats LoadSome(const T* p, int count) {
  T padded[8] = {};
  __builtin_memcpy(padded, p, count * sizeof(T));
  return Load(padded);
}

// --- A few rows: one pass over the weight, at the memory's rate ---

// Products of R rows of x with W rows of the weight, K long each.
template <typename T, int R, int W>
static inline void Dots(const float* x, const T* w, int64_t K, float (*sums)[W]) {
  constexpr int kParts = R * W >= 8 ? 1 : R * W >= 4 ? 2 : 4;  // independent sums enough to hide the latency of an addition
  Floats sum[R][W][kParts] = {};
  int64_t k = 0;
  for (; k + 8 * kParts <= K; k += 8 * kParts) {
    for (int j = 0; j < W; ++j) __builtin_prefetch(w + j * K + k + kAhead / sizeof(T));
    for (int part = 0; part < kParts; ++part) {
      Floats weights[W];
      for (int j = 0; j < W; ++j) weights[j] = Load(w + j * K + k + 8 * part);
      for (int r = 0; r < R; ++r) {
        const Floats values = Load(x + r * K + k + 8 * part);
        for (int j = 0; j < W; ++j) sum[r][j][part] = MultiplyAdd(values, weights[j], sum[r][j][part]);
      }
    }
  }
  for (; k < K; k += 8) {
    const int count = K - k < 8 ? (int)(K - k) : 8;
    for (int j = 0; j < W; ++j) {
      const Floats weights = LoadSome(w + j * K + k, count);
      for (int r = 0; r < R; ++r) sum[r][j][0] = MultiplyAdd(LoadSome(x + r * K + k, count), weights, sum[r][j][0]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < W; ++j) {
      Floats all = sum[r][j][0];
      for (int part = 1; part < kParts; ++part) all += sum[r][j][part];
      sums[r][j] = Sum(all);
    }
  }
}

// y[r][n] for n in [begin, end) of R rows
template <typename T, int R>
static void Rows(const float* x, const T* w, const float* scale, float* y, int64_t K, int64_t N, int64_t begin, int64_t end) {
  constexpr int W = R == 1 ? 1 : 2;
  int64_t n = begin;
  for (; n + W <= end; n += W) {
    float sums[R][W];
    Dots<T, R, W>(x, w + n * K, K, sums);
    for (int r = 0; r < R; ++r) {
      for (int j = 0; j < W; ++j) y[r * N + n + j] = scale == nullptr ? sums[r][j] : sums[r][j] * scale[n + j];
    }
  }
  for (; n < end; ++n) {
    float sums[R][1];
    Dots<T, R, 1>(x, w + n * K, K, sums);
    for (int r = 0; r < R; ++r) y[r * N + n] = scale == nullptr ? sums[r][0] : sums[r][0] * scale[n];
  }
}

// The same for up to kFew rows, four at a time, while the part of the weight is in the cache.
template <typename T>
static void FewRows(const float* x, int64_t rows, const T* w, const float* scale, float* y, int64_t K, int64_t N, int64_t begin, int64_t end) {
  for (; rows >= 4; rows -= 4, x += 4 * K, y += 4 * N) Rows<T, 4>(x, w, scale, y, K, N, begin, end);
  if (rows == 3) Rows<T, 3>(x, w, scale, y, K, N, begin, end);
  if (rows == 2) Rows<T, 2>(x, w, scale, y, K, N, begin, end);
  if (rows == 1) Rows<T, 1>(x, w, scale, y, K, N, begin, end);
}

// --- Many rows: the weight is widened panel by panel, inside the cache (Goto & van de Geijn 2008, https://doi.org/10.1145/1356052.1356053) ---

static inline void Transpose(Floats* rows) {
  Floats t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shuffle(rows[i], rows[i + 1], Lanes{0, 8, 1, 9, 4, 12, 5, 13});
    t[i + 1] = __builtin_shuffle(rows[i], rows[i + 1], Lanes{2, 10, 3, 11, 6, 14, 7, 15});
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      u[i + 2 * j] = __builtin_shuffle(t[i + j], t[i + 2 + j], Lanes{0, 1, 8, 9, 4, 5, 12, 13});
      u[i + 2 * j + 1] = __builtin_shuffle(t[i + j], t[i + 2 + j], Lanes{2, 3, 10, 11, 6, 7, 14, 15});
    }
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = __builtin_shuffle(u[i], u[i + 4], Lanes{0, 1, 2, 3, 8, 9, 10, 11});
    rows[i + 4] = __builtin_shuffle(u[i], u[i + 4], Lanes{4, 5, 6, 7, 12, 13, 14, 15});
  }
}

// Rows n.. of a weight (kPanel of them, zeros where `rows` is less), columns k..k+depth, as panel[k][n].
template <typename T>
static void PackRows(const T* w, const float* scale, int64_t K, int rows, int depth, float* panel) {
  for (int half = 0; half < kPanel; half += 8) {
    for (int k = 0; k < depth; k += 8) {
      const int count = depth - k < 8 ? depth - k : 8;
      Floats block[8];
      for (int j = 0; j < 8; ++j) {
        const int n = half + j;
        if (n >= rows) {
          block[j] = Floats{};
          continue;
        }
        const T* p = w + n * K + k;
        __builtin_prefetch(p + kPanel * K);
        block[j] = count == 8 ? Load(p) : LoadSome(p, count);
        if (scale != nullptr) block[j] *= Everywhere(scale[n]);
      }
      Transpose(block);
      for (int i = 0; i < count; ++i) Store(panel + (k + i) * kPanel + half, block[i]);
    }
  }
}

// Columns k.. of a weight (kPanel of them, zeros where `columns` is less), rows n..n+depth, as panel[n][k].
template <typename T>
static void PackColumns(const T* w, const float* scale, int64_t K, int columns, int depth, float* panel) {
  for (int n = 0; n < depth; ++n) {
    const Floats factor = Everywhere(scale == nullptr ? 1.0f : scale[n]);
    for (int half = 0; half < kPanel; half += 8) {
      const int count = columns - half;
      const T* p = w + n * K + half;
      const Floats values = count >= 8 ? Load(p) : count > 0 ? LoadSome(p, count) : Floats{};
      Store(panel + n * kPanel + half, values * factor);
    }
  }
}

// R rows of x, packed as [depth][R], times a panel [depth][kPanel], set or added to y.
template <int R>
static void Tile(const float* x, const float* panel, int depth, float* y, int64_t stride, int columns, bool first) {
  Floats sum[R][2] = {};
  for (int r = 0; r < R; ++r) __builtin_prefetch(y + r * stride, 1);
  for (int k = 0; k < depth; ++k) {
    const Floats low = Load(panel + k * kPanel), high = Load(panel + k * kPanel + 8);
    for (int r = 0; r < R; ++r) {
      const Floats value = Everywhere(x[k * R + r]);
      sum[r][0] = MultiplyAdd(value, low, sum[r][0]);
      sum[r][1] = MultiplyAdd(value, high, sum[r][1]);
    }
  }
  for (int r = 0; r < R; ++r) {
    float* out = y + r * stride;
    if (columns == kPanel) {
      Store(out, first ? sum[r][0] : Load(out) + sum[r][0]);
      Store(out + 8, first ? sum[r][1] : Load(out + 8) + sum[r][1]);
      continue;
    }
    for (int j = 0; j < columns; ++j) out[j] = first ? sum[r][j / 8][j % 8] : out[j] + sum[r][j / 8][j % 8];
  }
}

// The same for 1 to kRows rows.
static inline void TileOf(int rows, const float* x, const float* panel, int depth, float* y, int64_t stride, int columns, bool first) {
  switch (rows) {
    case 6: return Tile<6>(x, panel, depth, y, stride, columns, first);
    case 5: return Tile<5>(x, panel, depth, y, stride, columns, first);
    case 4: return Tile<4>(x, panel, depth, y, stride, columns, first);
    case 3: return Tile<3>(x, panel, depth, y, stride, columns, first);
    case 2: return Tile<2>(x, panel, depth, y, stride, columns, first);
    default: return Tile<1>(x, panel, depth, y, stride, columns, first);
  }
}

// Adds to y[all rows][begin..end) what `depth` of the summed dimension, from `from` on, contribute. packed: x as groups of kRows rows, [depth][rows] each.
template <typename T>
static void ManyRows(const float* packed, int64_t rows, const T* w, const float* scale, int64_t K, bool transposed, int64_t from, int depth, float* y,
                     int64_t stride, int64_t begin, int64_t end, float* panels) {
  int64_t count = 0;
  for (int64_t n = begin; n < end; n += kPanel, ++count) {
    const int some = end - n < kPanel ? (int)(end - n) : kPanel;
    float* panel = panels + count * kPanel * depth;
    if (transposed) PackColumns(w + from * K + n, scale == nullptr ? nullptr : scale + from, K, some, depth, panel);
    else PackRows(w + n * K + from, scale == nullptr ? nullptr : scale + n, K, some, depth, panel);
  }
  for (int64_t top = 0; top < rows; top += kBlock) {
    const int64_t bottom = top + kBlock < rows ? top + kBlock : rows;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t n = begin + i * kPanel;
      const int some = end - n < kPanel ? (int)(end - n) : kPanel;
      for (int64_t r = top; r < bottom; r += kRows) {
        const int group = bottom - r < kRows ? (int)(bottom - r) : kRows;
        TileOf(group, packed + r * depth, panels + i * kPanel * depth, depth, y + r * stride + n, stride, some, from == 0);
      }
    }
  }
}

// The largest magnitude of a row, and the row as whole numbers of 127ths of it.
template <typename T>
static float QuantizeRow(const T* w, int64_t K, int8_t* q) {
  Words largest = {};
  for (int64_t k = 0; k < K; k += 8) {
    const Words magnitude = (Words)(K - k < 8 ? LoadSome(w + k, (int)(K - k)) : Load(w + k)) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;  // floats without a sign are ordered as their bits are
  }
  uint32_t bits = 0;
  for (int i = 0; i < 8; ++i) bits = largest[i] > bits ? largest[i] : bits;
  float top;
  __builtin_memcpy(&top, &bits, sizeof top);
  if (bits >= 0x7f800000u) {  // an infinity or NaN makes all that this row gives a NaN, as it would in float32 nearly always
    __builtin_memset(q, 0, K);
    return __builtin_nanf("");
  }
  const float inverse = top > 0 ? 127.0f / top : 0.0f;
  for (int64_t k = 0; k < K; k += 8) {
    const int count = K - k < 8 ? (int)(K - k) : 8;
    const Floats scaled = (count == 8 ? Load(w + k) : LoadSome(w + k, count)) * Everywhere(inverse);
    for (int i = 0; i < count; ++i) q[k + i] = (int8_t)__builtin_rintf(scaled[i]);
  }
  return top / 127.0f;
}
