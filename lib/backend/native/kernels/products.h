#ifndef VISPRUNER_PRODUCTS_H_
#define VISPRUNER_PRODUCTS_H_

#include "kernels.h"

namespace vispruner {

// A weight [N, K] of a type that has products, with a scale for each row or none.
struct Weight {
  TF_DataType type;
  const void* data;
  const float* scale;
  int64_t N, K;
};

// False where the two tensors are no weight with its scales.
bool WeightOf(const TF_Tensor* w, const TF_Tensor* scale, Weight* weight);

// y = x w^T: x [rows, K] -> y [rows, N]; transposed, y = x w: x [rows, N] -> y [rows, K].
void Multiply(const float* x, int64_t rows, const Weight& w, float* y, bool transposed = false);

}  // namespace vispruner

#endif  // VISPRUNER_PRODUCTS_H_
