// The arithmetic of attention.cc, for the instruction set of the namespace that it is included in.
#include "simd.h"
#include "exponential_simd.h"

// R rows of x, `stride` apart, times a panel [depth][16], into rows of y.
template <int R>
static inline void Panel(const float* x, int64_t stride, const float* panel, int64_t depth, float* y, int64_t out) {
  Floats sum[R][2] = {};
  for (int64_t k = 0; k < depth; ++k) {
    const Floats low = Load(panel + k * kLanes), high = Load(panel + k * kLanes + 8);
    for (int r = 0; r < R; ++r) {
      const Floats value = Everywhere(x[r * stride + k]);
      sum[r][0] = MultiplyAdd(value, low, sum[r][0]);
      sum[r][1] = MultiplyAdd(value, high, sum[r][1]);
    }
  }
  for (int r = 0; r < R; ++r) {
    Store(y + r * out, sum[r][0]);
    Store(y + r * out + 8, sum[r][1]);
  }
}

// One row: four sums in flight hide the latency of an addition.
template <>
inline void Panel<1>(const float* x, int64_t, const float* panel, int64_t depth, float* y, int64_t) {
  Floats sum[4][2] = {};
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4) {
    for (int part = 0; part < 4; ++part) {
      const Floats value = Everywhere(x[k + part]);
      sum[part][0] = MultiplyAdd(value, Load(panel + (k + part) * kLanes), sum[part][0]);
      sum[part][1] = MultiplyAdd(value, Load(panel + (k + part) * kLanes + 8), sum[part][1]);
    }
  }
  for (; k < depth; ++k) {
    const Floats value = Everywhere(x[k]);
    sum[0][0] = MultiplyAdd(value, Load(panel + k * kLanes), sum[0][0]);
    sum[0][1] = MultiplyAdd(value, Load(panel + k * kLanes + 8), sum[0][1]);
  }
  Store(y, (sum[0][0] + sum[1][0]) + (sum[2][0] + sum[3][0]));
  Store(y + 8, (sum[0][1] + sum[1][1]) + (sum[2][1] + sum[3][1]));
}

// The same for any number of rows.
static inline void PanelOf(int rows, const float* x, int64_t stride, const float* panel, int64_t depth, float* y, int64_t out) {
  for (; rows >= 6; rows -= 6, x += 6 * stride, y += 6 * out) Panel<6>(x, stride, panel, depth, y, out);
  switch (rows) {
    case 5: return Panel<5>(x, stride, panel, depth, y, out);
    case 4: return Panel<4>(x, stride, panel, depth, y, out);
    case 3: return Panel<3>(x, stride, panel, depth, y, out);
    case 2: return Panel<2>(x, stride, panel, depth, y, out);
    case 1: return Panel<1>(x, stride, panel, depth, y, out);
    default: return;
  }
}

// Scores of a row as e^(score - the largest), zeros from `count` to `width` (a multiple of 8). Returns their sum.
static inline float Weigh(float* scores, int64_t count, int64_t width) {
  for (int64_t i = count; i < width; ++i) scores[i] = -__builtin_inff();
  Floats top = Load(scores);
  for (int64_t i = 8; i < width; i += 8) {
    const Floats next = Load(scores + i);
    top = next > top ? next : top;
  }
  float largest = top[0];
  for (int i = 1; i < 8; ++i) largest = top[i] > largest ? top[i] : largest;
  Floats sum = {};
  for (int64_t i = 0; i < width; i += 8) {
    const Floats weight = Exponential(Load(scores + i) - Everywhere(largest));
    Store(scores + i, weight);
    sum += weight;
  }
  return Sum(sum);
}

// Rows [begin, begin + count) of the queries that share a key-value head; row r is head r % group of query r / group.
static void AttendRows(const Attention& a, int64_t head, int64_t begin, int count, float* scratch) {
  const int64_t width = a.heads * a.depth, depth = a.depth, padded = Lanes16(depth);
  const int64_t group = a.heads / a.key_value_heads;
  const int64_t last = a.Sees((begin + count - 1) / group);
  const int64_t columns = Lanes16(last);
  float *queries = scratch, *mixed = queries + kTile * depth, *scores = mixed + kTile * padded;
  const float scale = 1.0f / __builtin_sqrtf((float)depth);
  for (int r = 0; r < count; ++r) {
    const int64_t row = begin + r;
    const float* query = a.queries + row / group * width + (head * group + row % group) * depth;
    for (int64_t d = 0; d < depth; ++d) queries[r * depth + d] = query[d] * scale;
  }
  const float* keys = a.keys + head * a.capacity * depth;
  for (int64_t k = 0; k < columns; k += kLanes) PanelOf(count, queries, depth, keys + k * depth, depth, scores + k, columns);
  float inverse[kTile];
  for (int r = 0; r < count; ++r) inverse[r] = 1.0f / Weigh(scores + r * columns, a.Sees((begin + r) / group), columns);
  const float* values = a.values + head * a.capacity * padded;
  for (int64_t d = 0; d < padded; d += kLanes) PanelOf(count, scores, columns, values + d * a.capacity, last, mixed + d, padded);
  for (int r = 0; r < count; ++r) {
    const int64_t row = begin + r;
    float* out = a.output + row / group * width + (head * group + row % group) * depth;
    for (int64_t d = 0; d < depth; ++d) out[d] = mixed[r * padded + d] * inverse[r];
  }
}
