// Products of float32 rows with a weight in float32, bfloat16, float16 or int8, which is widened in registers or in the cache and never as a whole:
//
//   VisprunerProduct(x [R, K], w [N, K], scale [N] or [0]) -> x w^T [R, N]; with transposed: x [R, N] -> x w [R, K]
//   VisprunerQuantize(w [N, K]) -> int8 [N, K], scale [N]
//
// Sums are float32. One row costs one reading of the weight.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "products.h"

namespace vispruner {
namespace {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

constexpr int kRows = 6;       // of x in a tile: 6 x 16 sums fill the registers
constexpr int kPanel = 16;     // columns of a tile
constexpr int kDepth = 256;    // of the summed dimension at a time: a panel of 16 KiB stays in the first cache
constexpr int kBlock = 96;     // rows of x at a time: 96 KiB, in the second cache
constexpr int kColumns = 128;  // columns that one thread takes at a time: panels of 128 KiB, in the second cache too
constexpr int kFew = 12;       // rows for which the weight is not packed (measured)
constexpr int kAhead = 2048;   // bytes
constexpr int64_t kPart = 1 << 16;  // bytes of weight that one thread takes at a time

#define SIMD "products_simd.h"
#include "dispatch.h"

template <typename T>
void Few(const float* x, int64_t rows, const T* w, const float* scale, float* y, int64_t K, int64_t N) {
  const int64_t grain = 2 * (kPart / (2 * (K > 0 ? K : 1) * static_cast<int64_t>(sizeof(T))) + 1);
  Parallel(N, grain, [&](int64_t begin, int64_t end) { DISPATCH(FewRows<T>(x, rows, w, scale, y, K, N, begin, end)); });
}

template <typename T>
void Many(const float* x, int64_t rows, const T* w, const float* scale, float* y, int64_t K, int64_t N, bool transposed) {
  const int64_t sum = transposed ? N : K, columns = transposed ? K : N;
  thread_local std::vector<float> packed;
  packed.resize(rows * kDepth);
  for (int64_t from = 0; from < sum; from += kDepth) {
    const int depth = static_cast<int>(sum - from < kDepth ? sum - from : kDepth);
    float* groups = packed.data();  // of this thread, whoever fills it
    Parallel((rows + kRows - 1) / kRows, 8, [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; ++group) {
        const int64_t top = group * kRows;
        const int count = static_cast<int>(rows - top < kRows ? rows - top : kRows);
        float* target = groups + top * depth;
        for (int r = 0; r < count; ++r) {
          const float* row = x + (top + r) * sum + from;
          for (int k = 0; k < depth; ++k) target[k * count + r] = row[k];
        }
      }
    });
    Parallel(columns, kColumns, [&](int64_t begin, int64_t end) {
      thread_local std::vector<float> panels;
      panels.resize(kColumns * kDepth);
      DISPATCH(ManyRows<T>(groups, rows, w, scale, K, transposed, from, depth, y, columns, begin, end, panels.data()));
    });
  }
}

template <typename T>
void Product(const float* x, int64_t rows, const void* weight, const float* scale, float* y, int64_t K, int64_t N, bool transposed) {
  const T* w = static_cast<const T*>(weight);
  if (transposed || rows > kFew) return Many(x, rows, w, scale, y, K, N, transposed);
  Few(x, rows, w, scale, y, K, N);
}

void ComputeProduct(void* transposed, TF_OpKernelContext* context) {
  Call call(context);
  const TF_Tensor *x = call.Input(0), *w = call.Input(1), *s = call.Input(2);
  if (x == nullptr || w == nullptr || s == nullptr) return;
  const bool turned = transposed != nullptr;
  Weight weight;
  if (!WeightOf(w, s, &weight)) return call.Fail("VisprunerProduct: a weight is a matrix with one scale for each of its rows, or none.");
  if (TF_NumDims(x) != 2 || TF_Dim(x, 1) != (turned ? weight.N : weight.K)) return call.Fail("VisprunerProduct: the rows do not fit the weight.");
  const int64_t rows = TF_Dim(x, 0);
  float* y = static_cast<float*>(call.Output(0, TF_FLOAT, {rows, turned ? weight.K : weight.N}));
  if (y != nullptr) Multiply(Data<float>(x), rows, weight, y, turned);
}

// The flag is all that a kernel keeps: a pointer that is null or not.
void* CreateProduct(TF_OpKernelConstruction* construction) {
  static char yes;
  unsigned char transposed = 0;
  TF_Status* status = TF_NewStatus();
  TF_OpKernelConstruction_GetAttrBool(construction, "transposed", &transposed, status);
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return transposed ? &yes : nullptr;
}

template <typename T>
void Quantize(const void* weight, int8_t* q, float* scale, int64_t K, int64_t N) {
  const T* w = static_cast<const T*>(weight);
  Parallel(N, 16, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) scale[n] = DISPATCH(QuantizeRow<T>(w + n * K, K, q + n * K));
  });
}

void ComputeQuantize(void*, TF_OpKernelContext* context) {
  Call call(context);
  const TF_Tensor* w = call.Input(0);
  if (w == nullptr) return;
  if (TF_NumDims(w) != 2) return call.Fail("VisprunerQuantize: the weight must have two dimensions.");
  const int64_t N = TF_Dim(w, 0), K = TF_Dim(w, 1);
  auto* q = static_cast<int8_t*>(call.Output(0, TF_INT8, {N, K}));
  auto* scale = static_cast<float*>(call.Output(1, TF_FLOAT, {N}));
  if (q == nullptr || scale == nullptr) return;
  switch (TF_TensorType(w)) {
    case TF_FLOAT: return Quantize<float>(TF_TensorData(w), q, scale, K, N);
    case TF_BFLOAT16: return Quantize<BFloat16>(TF_TensorData(w), q, scale, K, N);
    case TF_HALF: return Quantize<Float16>(TF_TensorData(w), q, scale, K, N);
    default: return call.Fail("VisprunerQuantize: the weight must be float, bfloat16 or half.");
  }
}

const bool registered = [] {
  Register("VisprunerProduct", {"T: {float, bfloat16, half, int8}", "transposed: bool"}, {"x: float", "w: T", "scale: float"}, {"y: float"}, CreateProduct,
           ComputeProduct, DeleteNothing);
  Register("VisprunerQuantize", {"T: {float, bfloat16, half}"}, {"w: T"}, {"q: int8", "scale: float"}, CreateNothing, ComputeQuantize,
           DeleteNothing);
  return true;
}();

}  // namespace

bool WeightOf(const TF_Tensor* w, const TF_Tensor* scale, Weight* weight) {
  if (TF_NumDims(w) != 2 || TF_NumDims(scale) != 1) return false;
  *weight = {TF_TensorType(w), TF_TensorData(w), TF_Dim(scale, 0) == 0 ? nullptr : Data<float>(scale), TF_Dim(w, 0), TF_Dim(w, 1)};
  return weight->scale == nullptr || TF_Dim(scale, 0) == weight->N;
}

void Multiply(const float* x, int64_t rows, const Weight& w, float* y, bool transposed) {
  const int64_t columns = transposed ? w.K : w.N;
  if (rows == 0 || columns == 0) return;
  if (w.N == 0 || w.K == 0) {
    for (int64_t i = 0; i < rows * columns; ++i) y[i] = 0;
    return;
  }
  switch (w.type) {
    case TF_BFLOAT16: return Product<BFloat16>(x, rows, w.data, w.scale, y, w.K, w.N, transposed);
    case TF_HALF: return Product<Float16>(x, rows, w.data, w.scale, y, w.K, w.N, transposed);
    case TF_INT8: return Product<int8_t>(x, rows, w.data, w.scale, y, w.K, w.N, transposed);
    default: return Product<float>(x, rows, w.data, w.scale, y, w.K, w.N, transposed);
  }
}

}  // namespace vispruner
