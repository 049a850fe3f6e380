// What the blocks of decoder and encoder do between their products, each in one pass where TensorFlow takes three to eight operations:
//
//   VisprunerRmsNorm(x [R, C], weight [C]; epsilon) -> [R, C]
//   VisprunerLayerNorm(x [R, C], weight [C], bias [C]; epsilon) -> [R, C]
//   VisprunerQuickGelu(x) -> x sigmoid(1.702 x), elementwise
//   VisprunerRotate(x [R, heads * 2 half], cos [R, ..., half], sin) -> the same shape: rotary position embedding, first half of a head with the second
//   VisprunerSwiglu(gate, up) -> gate sigmoid(gate) up, elementwise
//
// All float32.
#include <cstdint>

#include "decoder.h"
#include "kernels.h"

namespace vispruner {
namespace {

constexpr int64_t kPart = 1 << 14;  // values that one thread takes at a time

#define SIMD "decoder_simd.h"
#include "dispatch.h"

std::vector<int64_t> ShapeOf(const TF_Tensor* tensor) {
  std::vector<int64_t> shape;
  for (int i = 0; i < TF_NumDims(tensor); ++i) shape.push_back(TF_Dim(tensor, i));
  return shape;
}

int64_t RowsAtATime(int64_t width) { return kPart / (width > 0 ? width : 1) + 1; }

void ComputeRmsNorm(void* kernel, TF_OpKernelContext* context) {
  Call call(context);
  const TF_Tensor *x = call.Input(0), *w = call.Input(1);
  if (x == nullptr || w == nullptr) return;
  if (TF_NumDims(x) != 2 || TF_NumDims(w) != 1 || TF_Dim(x, 1) != TF_Dim(w, 0)) return call.Fail("VisprunerRmsNorm: the rows do not fit the weight.");
  const int64_t rows = TF_Dim(x, 0), size = TF_Dim(x, 1);
  float* y = static_cast<float*>(call.Output(0, TF_FLOAT, {rows, size}));
  if (y == nullptr) return;
  NormRows(Data<float>(x), Data<float>(w), *static_cast<float*>(kernel), y, rows, size);
}

void ComputeLayerNorm(void* kernel, TF_OpKernelContext* context) {
  Call call(context);
  const TF_Tensor *x = call.Input(0), *w = call.Input(1), *b = call.Input(2);
  if (x == nullptr || w == nullptr || b == nullptr) return;
  const int64_t size = TF_NumDims(x) == 2 ? TF_Dim(x, 1) : -1;
  if (size < 0 || TF_TensorElementCount(w) != size || TF_TensorElementCount(b) != size) return call.Fail("VisprunerLayerNorm: the rows do not fit the weight.");
  const int64_t rows = TF_Dim(x, 0);
  float* y = static_cast<float*>(call.Output(0, TF_FLOAT, {rows, size}));
  if (y == nullptr) return;
  const float *values = Data<float>(x), *weight = Data<float>(w), *bias = Data<float>(b), epsilon = *static_cast<float*>(kernel);
  Parallel(rows, RowsAtATime(size), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) DISPATCH(LayerNormRow(values + row * size, weight, bias, epsilon, y + row * size, size));
  });
}

void ComputeQuickGelu(void*, TF_OpKernelContext* context) {
  Call call(context);
  const TF_Tensor* x = call.Input(0);
  if (x == nullptr) return;
  float* y = static_cast<float*>(call.Output(0, TF_FLOAT, ShapeOf(x)));
  if (y == nullptr) return;
  const float* values = Data<float>(x);
  Parallel(TF_TensorElementCount(x), kPart, [&](int64_t begin, int64_t end) { DISPATCH(QuickGeluRange(values, y, begin, end)); });
}

void ComputeRotate(void*, TF_OpKernelContext* context) {
  Call call(context);
  const TF_Tensor *x = call.Input(0), *c = call.Input(1), *s = call.Input(2);
  if (x == nullptr || c == nullptr || s == nullptr) return;
  const int64_t rows = TF_NumDims(x) == 2 ? TF_Dim(x, 0) : -1, width = rows >= 0 ? TF_Dim(x, 1) : 0;
  const int64_t half = TF_NumDims(c) > 0 ? TF_Dim(c, TF_NumDims(c) - 1) : 0;
  if (rows < 0 || half == 0 || width % (2 * half) != 0 || TF_TensorElementCount(c) != rows * half || TF_TensorElementCount(s) != rows * half) {
    return call.Fail("VisprunerRotate: the table does not fit the rows.");
  }
  float* y = static_cast<float*>(call.Output(0, TF_FLOAT, {rows, width}));
  if (y == nullptr) return;
  RotateRows(Data<float>(x), Data<float>(c), Data<float>(s), y, rows, width, half);
}

void ComputeSwiglu(void*, TF_OpKernelContext* context) {
  Call call(context);
  const TF_Tensor *gate = call.Input(0), *up = call.Input(1);
  if (gate == nullptr || up == nullptr) return;
  const std::vector<int64_t> shape = ShapeOf(gate);
  if (shape != ShapeOf(up)) return call.Fail("VisprunerSwiglu: both operands must have one shape.");
  float* y = static_cast<float*>(call.Output(0, TF_FLOAT, shape));
  if (y == nullptr) return;
  Gate(Data<float>(gate), Data<float>(up), y, TF_TensorElementCount(gate));
}

const bool registered = [] {
  Register("VisprunerRmsNorm", {"epsilon: float"}, {"x: float", "weight: float"}, {"y: float"}, CreateEpsilon, ComputeRmsNorm, DeleteEpsilon);
  Register("VisprunerLayerNorm", {"epsilon: float"}, {"x: float", "weight: float", "bias: float"}, {"y: float"}, CreateEpsilon, ComputeLayerNorm,
           DeleteEpsilon);
  Register("VisprunerQuickGelu", {}, {"x: float"}, {"y: float"}, CreateNothing, ComputeQuickGelu, DeleteNothing);
  Register("VisprunerRotate", {}, {"x: float", "cos: float", "sin: float"}, {"y: float"}, CreateNothing, ComputeRotate, DeleteNothing);
  Register("VisprunerSwiglu", {}, {"gate: float", "up: float"}, {"y: float"}, CreateNothing, ComputeSwiglu, DeleteNothing);
  return true;
}();

}  // namespace

void NormRows(const float* x, const float* weight, float epsilon, float* y, int64_t rows, int64_t size) {
  Parallel(rows, RowsAtATime(size), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) DISPATCH(NormRow(x + row * size, weight, epsilon, y + row * size, size));
  });
}

void RotateRows(const float* x, const float* cosines, const float* sines, float* y, int64_t rows, int64_t width, int64_t half) {
  Parallel(rows, RowsAtATime(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      DISPATCH(RotateRow(x + row * width, cosines + row * half, sines + row * half, y + row * width, width, half));
    }
  });
}

void Gate(const float* gate, const float* up, float* y, int64_t count) {
  Parallel(count, kPart, [&](int64_t begin, int64_t end) { DISPATCH(GateRange(gate, up, y, begin, end)); });
}

}  // namespace vispruner
