// The arithmetic of decoder.cc, for the instruction set of the namespace that it is included in.
#include "simd.h"
#include "exponential_simd.h"

// y = x / sqrt(mean of squares + epsilon) * weight
static void NormRow(const float* x, const float* weight, float epsilon, float* y, int64_t size) {
  Floats sums[2] = {};
  int64_t i = 0;
  for (; i + 16 <= size; i += 16) {
    const Floats low = Load(x + i), high = Load(x + i + 8);
    sums[0] = MultiplyAdd(low, low, sums[0]);
    sums[1] = MultiplyAdd(high, high, sums[1]);
  }
  float sum = Sum(sums[0] + sums[1]);
  for (; i < size; ++i) sum += x[i] * x[i];
  const float scale = 1.0f / __builtin_sqrtf(sum / size + epsilon);
  for (i = 0; i < size; ++i) y[i] = x[i] * scale * weight[i];
}

// y = (x - mean) / sqrt(variance + epsilon) * weight + bias, in two passes: the mean first
static void LayerNormRow(const float* x, const float* weight, const float* bias, float epsilon, float* y, int64_t size) {
  Floats sums[2] = {};
  int64_t i = 0;
  for (; i + 16 <= size; i += 16) {
    sums[0] += Load(x + i);
    sums[1] += Load(x + i + 8);
  }
  float sum = Sum(sums[0] + sums[1]);
  for (; i < size; ++i) sum += x[i];
  const float mean = sum / size;
  sums[0] = sums[1] = Floats{};
  for (i = 0; i + 16 <= size; i += 16) {
    const Floats low = Load(x + i) - Everywhere(mean), high = Load(x + i + 8) - Everywhere(mean);
    sums[0] = MultiplyAdd(low, low, sums[0]);
    sums[1] = MultiplyAdd(high, high, sums[1]);
  }
  float squares = Sum(sums[0] + sums[1]);
  for (; i < size; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / __builtin_sqrtf(squares / size + epsilon);
  for (i = 0; i < size; ++i) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

// The first half of each head turns with the second.
static void RotateRow(const float* x, const float* cosines, const float* sines, float* y, int64_t width, int64_t half) {
  for (int64_t head = 0; head < width; head += 2 * half) {
    const float *first = x + head, *second = first + half;
    for (int64_t i = 0; i < half; ++i) {
      y[head + i] = first[i] * cosines[i] - second[i] * sines[i];
      y[head + half + i] = second[i] * cosines[i] + first[i] * sines[i];
    }
  }
}

// Of e^-|x|, which can't overflow.
static inline Floats Sigmoid(Floats x) {
  const Floats zero = {}, one = Everywhere(1.0f);
  const Floats e = Exponential(x < zero ? x : -x);
  return (x < zero ? e : one) / (one + e);
}

// x sigmoid(1.702 x)
static inline Floats QuickGelu(Floats x) { return x * Sigmoid(x * Everywhere(1.702f)); }

static void QuickGeluRange(const float* x, float* y, int64_t begin, int64_t end) {
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) Store(y + i, QuickGelu(Load(x + i)));
  for (; i < end; ++i) y[i] = QuickGelu(Everywhere(x[i]))[0];
}

// x sigmoid(x) up
static inline Floats Gated(Floats x, Floats up) { return x * Sigmoid(x) * up; }

static void GateRange(const float* gate, const float* up, float* y, int64_t begin, int64_t end) {
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) Store(y + i, Gated(Load(gate + i), Load(up + i)));
  for (; i < end; ++i) y[i] = Gated(Everywhere(gate[i]), Everywhere(up[i]))[0];
}
