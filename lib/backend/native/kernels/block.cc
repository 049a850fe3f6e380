// A whole decoder block for a few rows, in one operation: behind a small model's products, calling thirteen takes as long as they do.
//
//   VisprunerDecoderBlock(x [R, C], input_norm [C], post_norm [C], cos [R, ..., D / 2], sin, at [N], N keys, N values, 7 weights, 7 scales; epsilon)
//     -> [R, C]
//
// The weights are those of q, k, v, o, gate, up, down, each as VisprunerProduct takes it. Keys and values are those of N caches: the i-th holds at[i]
// tokens and gets the i-th R / N rows behind them.
#include <cstdint>
#include <vector>

#include "attention.h"
#include "decoder.h"
#include "kernels.h"
#include "products.h"

namespace vispruner {
namespace {

enum { kQ, kK, kV, kO, kGate, kUp, kDown, kWeights };
constexpr int kFirstCache = 6;

void Compute(void* kernel, TF_OpKernelContext* context) {
  Call call(context);
  std::vector<const TF_Tensor*> in(TF_NumInputs(context));
  for (size_t i = 0; i < in.size(); ++i) {
    in[i] = call.Input(static_cast<int>(i));
    if (in[i] == nullptr) return;
  }
  const int64_t sequences = (static_cast<int64_t>(in.size()) - kFirstCache - 2 * kWeights) / 2;
  const TF_Tensor* const* weights = &in[kFirstCache + 2 * sequences];
  Weight w[kWeights];
  for (int i = 0; i < kWeights; ++i) {
    if (!WeightOf(weights[i], weights[kWeights + i], &w[i])) return call.Fail("VisprunerDecoderBlock: one of the weights is none.");
  }
  if (TF_NumDims(in[0]) != 2 || TF_Dim(in[0], 0) % sequences != 0 || TF_TensorElementCount(in[5]) != sequences) {
    return call.Fail("VisprunerDecoderBlock: x must have as many rows for each cache.");
  }
  const int64_t rows = TF_Dim(in[0], 0), width = TF_Dim(in[0], 1), each = rows / sequences, inner = w[kGate].N;
  const int32_t* at = Data<int32_t>(in[5]);
  std::vector<Cache> caches(sequences);
  for (int64_t i = 0; i < sequences; ++i) {
    const bool cache = CacheOf(in[kFirstCache + i], in[kFirstCache + sequences + i], &caches[i]);
    if (!cache || caches[i].heads != caches[0].heads || caches[i].depth != caches[0].depth) {
      return call.Fail("VisprunerDecoderBlock: these are not the tensors of caches.");
    }
    if (at[i] < 0 || at[i] + each > caches[i].capacity) return call.Fail("VisprunerDecoderBlock: a cache is full.");
  }
  const int64_t depth = caches[0].depth, query_width = w[kQ].N, key_width = caches[0].heads * depth, half = depth / 2;
  const int64_t shapes[kWeights][2] = {{query_width, width}, {key_width, width}, {key_width, width}, {width, query_width},
                                       {inner, width},       {inner, width},     {width, inner}};
  for (int i = 0; i < kWeights; ++i) {
    if (w[i].N != shapes[i][0] || w[i].K != shapes[i][1]) return call.Fail("VisprunerDecoderBlock: the weights do not fit each other.");
  }
  if (query_width % key_width != 0 || depth % 2 != 0 || TF_TensorElementCount(in[1]) != width || TF_TensorElementCount(in[2]) != width ||
      TF_TensorElementCount(in[3]) != rows * half || TF_TensorElementCount(in[4]) != rows * half) {
    return call.Fail("VisprunerDecoderBlock: norms, tables or heads do not fit the rows.");
  }
  float* y = static_cast<float*>(call.Output(0, TF_FLOAT, {rows, width}));
  if (y == nullptr || rows == 0) return;

  thread_local std::vector<float> scratch;
  scratch.resize(rows * (width + 2 * query_width + 2 * key_width + 2 * inner));
  float* next = scratch.data();
  const auto take = [&](int64_t columns) {
    float* start = next;
    next += rows * columns;
    return start;
  };
  float *normed = take(width), *queries = take(query_width), *mixed = take(query_width), *keys = take(key_width), *values = take(key_width);
  float *gate = take(inner), *up = take(inner);
  const float *x = Data<float>(in[0]), *cosines = Data<float>(in[3]), *sines = Data<float>(in[4]), epsilon = *static_cast<float*>(kernel);

  NormRows(x, Data<float>(in[1]), epsilon, normed, rows, width);
  Multiply(normed, rows, w[kQ], mixed);
  RotateRows(mixed, cosines, sines, queries, rows, query_width, half);
  Multiply(normed, rows, w[kK], values);
  RotateRows(values, cosines, sines, keys, rows, key_width, half);
  Multiply(normed, rows, w[kV], values);
  for (int64_t i = 0; i < sequences; ++i) {
    WriteCache(keys + i * each * key_width, values + i * each * key_width, each, at[i], caches[i]);
    AttendCache(queries + i * each * query_width, each, query_width / depth, caches[i], at[i] + each, mixed + i * each * query_width);
  }
  Multiply(mixed, rows, w[kO], y);
  for (int64_t i = 0; i < rows * width; ++i) y[i] += x[i];
  NormRows(y, Data<float>(in[2]), epsilon, normed, rows, width);
  Multiply(normed, rows, w[kGate], gate);
  Multiply(normed, rows, w[kUp], up);
  Gate(gate, up, gate, rows * inner);
  Multiply(gate, rows, w[kDown], normed);
  for (int64_t i = 0; i < rows * width; ++i) y[i] += normed[i];
}

const bool registered = [] {
  std::vector<const char*> inputs = {"x: float", "input_norm: float", "post_norm: float", "cos: float", "sin: float", "at: int32", "keys: N * float", "values: N * float"};
  for (const char* weight : {"q: T", "k: T", "v: T", "o: T", "gate: T", "up: T", "down: T"}) inputs.push_back(weight);
  for (const char* scale : {"q_scale: float", "k_scale: float", "v_scale: float", "o_scale: float", "gate_scale: float", "up_scale: float", "down_scale: float"}) {
    inputs.push_back(scale);
  }
  Register("VisprunerDecoderBlock", {"T: {float, bfloat16, half, int8}", "N: int >= 1", "epsilon: float"}, inputs, {"y: float"}, CreateEpsilon, Compute, DeleteEpsilon);
  return true;
}();

}  // namespace
}  // namespace vispruner
