#ifndef VISPRUNER_ATTENTION_H_
#define VISPRUNER_ATTENTION_H_

#include "kernels.h"

namespace vispruner {

// The tensors of a cache (attention.cc says how they lie).
struct Cache {
  float *keys, *values;
  int64_t heads, depth, capacity;
};

// False where the two are none.
bool CacheOf(const TF_Tensor* keys, const TF_Tensor* values, Cache* cache);

// Keys and values [count, heads depth] become tokens [at, at + count).
void WriteCache(const float* keys, const float* values, int64_t count, int64_t at, const Cache& cache);

// queries [count, query_heads depth], the last of `length` tokens, each over those up to itself -> output, of the same shape
void AttendCache(const float* queries, int64_t count, int64_t query_heads, const Cache& cache, int64_t length, float* output);

// The value of an int32 scalar; -1 of anything else.
int64_t Scalar(const TF_Tensor* tensor);

}  // namespace vispruner

#endif  // VISPRUNER_ATTENTION_H_
