// Scaled dot-product attention that never makes a whole map, and a key-value cache that is written in place.
//
//   VisprunerAttention(queries [B Q, H D], keys [B K, KVH D], values; heads, key_value_heads, batch, causal) -> [B Q, H D]
//   VisprunerCacheWrite(keys, values, new_keys [n, KVH D], new_values [n, KVH D], at) -> nothing: the first two change
//   VisprunerCacheAttention(queries [Q, H D], keys, values, length) -> [Q, H D]: causal, the queries are the last Q of `length` tokens
//
// Keys and values of a cache lie as the products read them, by head: keys [KVH, capacity / 16, D, 16], 16 tokens side by side; values
// [KVH, D / 16 (upwards), capacity, 16], 16 dimensions side by side. `at` and `length` are int32 scalars; all else is float32.
#include <cstdint>
#include <vector>

#include "attention.h"
#include "kernels.h"

namespace vispruner {
namespace {

constexpr int kLanes = 16;
constexpr int kTile = 24;  // rows of queries that go through keys and values together

int64_t Lanes16(int64_t size) { return (size + kLanes - 1) / kLanes * kLanes; }

// One sequence. Keys and values as in a cache.
struct Attention {
  const float *queries, *keys, *values;
  float* output;
  int64_t heads, key_value_heads, depth;
  int64_t query_count, length, capacity;
  bool causal;

  // How many tokens a query sees.
  int64_t Sees(int64_t query) const { return causal ? length - query_count + query + 1 : length; }
};

#define SIMD "attention_simd.h"
#include "dispatch.h"

void Attend(const Attention& a) {
  const int64_t rows = a.query_count * (a.heads / a.key_value_heads);
  const int64_t tiles = (rows + kTile - 1) / kTile;
  Parallel(a.key_value_heads * tiles, 1, [&](int64_t begin, int64_t end) {
    thread_local std::vector<float> scratch;
    scratch.resize(kTile * (a.depth + Lanes16(a.depth) + Lanes16(a.length)));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t tile = tiles - 1 - i / a.key_value_heads;  // of causal rows the last have most to do
      const int64_t first = tile * kTile;
      const int count = static_cast<int>(rows - first < kTile ? rows - first : kTile);
      DISPATCH(AttendRows(a, i % a.key_value_heads, first, count, scratch.data()));
    }
  });
}

void ComputeCacheWrite(void*, TF_OpKernelContext* context) {
  Call call(context);
  const TF_Tensor *keys = call.Input(0), *values = call.Input(1), *new_keys = call.Input(2), *new_values = call.Input(3), *at = call.Input(4);
  if (keys == nullptr || values == nullptr || new_keys == nullptr || new_values == nullptr || at == nullptr) return;
  Cache cache;
  if (!CacheOf(keys, values, &cache)) return call.Fail("VisprunerCacheWrite: these are not the tensors of a cache.");
  const int64_t count = TF_NumDims(new_keys) == 2 ? TF_Dim(new_keys, 0) : -1, first = Scalar(at), width = cache.heads * cache.depth;
  if (count < 0 || TF_Dim(new_keys, 1) != width || TF_NumDims(new_values) != 2 || TF_Dim(new_values, 0) != count || TF_Dim(new_values, 1) != width) {
    return call.Fail("VisprunerCacheWrite: the rows do not fit the cache.");
  }
  if (first < 0 || first + count > cache.capacity) return call.Fail("VisprunerCacheWrite: the cache is full.");
  WriteCache(Data<float>(new_keys), Data<float>(new_values), count, first, cache);
}

void ComputeCacheAttention(void*, TF_OpKernelContext* context) {
  Call call(context);
  const TF_Tensor *queries = call.Input(0), *keys = call.Input(1), *values = call.Input(2), *length = call.Input(3);
  if (queries == nullptr || keys == nullptr || values == nullptr || length == nullptr) return;
  Cache cache;
  if (!CacheOf(keys, values, &cache)) return call.Fail("VisprunerCacheAttention: these are not the tensors of a cache.");
  const int64_t count = TF_NumDims(queries) == 2 ? TF_Dim(queries, 0) : -1, width = count < 0 ? 0 : TF_Dim(queries, 1), held = Scalar(length);
  if (width == 0 || width % (cache.heads * cache.depth) != 0) return call.Fail("VisprunerCacheAttention: the queries do not fit the cache.");
  if (held < count || held > cache.capacity) return call.Fail("VisprunerCacheAttention: the cache holds less than that.");
  float* output = static_cast<float*>(call.Output(0, TF_FLOAT, {count, width}));
  if (output != nullptr) AttendCache(Data<float>(queries), count, width / cache.depth, cache, held, output);
}

struct AttentionSettings {
  int64_t heads = 0, key_value_heads = 0, batch = 0;
  unsigned char causal = 0;
};

void ComputeAttention(void* kernel, TF_OpKernelContext* context) {
  Call call(context);
  const auto& settings = *static_cast<AttentionSettings*>(kernel);
  const TF_Tensor *queries = call.Input(0), *keys = call.Input(1), *values = call.Input(2);
  if (queries == nullptr || keys == nullptr || values == nullptr) return;
  const auto [heads, key_value_heads, batch, causal] = settings;
  const bool flat = TF_NumDims(queries) == 2 && TF_NumDims(keys) == 2 && TF_NumDims(values) == 2;
  const int64_t width = flat ? TF_Dim(queries, 1) : 0, depth = heads > 0 ? width / heads : 0, tokens = flat ? TF_Dim(keys, 0) : 0;
  if (depth == 0 || depth * heads != width || key_value_heads < 1 || heads % key_value_heads != 0 || TF_Dim(keys, 1) != key_value_heads * depth ||
      TF_Dim(values, 1) != key_value_heads * depth || TF_Dim(values, 0) != tokens || batch < 1 || tokens % batch != 0 || TF_Dim(queries, 0) % batch != 0) {
    return call.Fail("VisprunerAttention: queries, keys and values do not fit each other.");
  }
  const int64_t count = TF_Dim(queries, 0) / batch, length = tokens / batch, capacity = Lanes16(length);
  if (length == 0 || (causal && length < count)) return call.Fail("VisprunerAttention: some queries see nothing.");
  float* output = static_cast<float*>(call.Output(0, TF_FLOAT, {batch * count, width}));
  if (output == nullptr || count == 0) return;
  thread_local std::vector<float> packed;
  packed.assign(key_value_heads * capacity * (depth + Lanes16(depth)), 0.0f);
  float *k = packed.data(), *v = k + key_value_heads * capacity * depth;
  for (int64_t i = 0; i < batch; ++i) {
    const int64_t from = i * length * key_value_heads * depth;
    WriteCache(Data<float>(keys) + from, Data<float>(values) + from, length, 0, {k, v, key_value_heads, depth, capacity});
    const int64_t row = i * count * width;
    Attend({Data<float>(queries) + row, k, v, output + row, heads, key_value_heads, depth, count, length, capacity, causal != 0});
  }
}

void* CreateAttention(TF_OpKernelConstruction* construction) {
  auto* settings = new AttentionSettings;
  TF_Status* status = TF_NewStatus();
  TF_OpKernelConstruction_GetAttrInt64(construction, "heads", &settings->heads, status);
  if (TF_GetCode(status) == TF_OK) TF_OpKernelConstruction_GetAttrInt64(construction, "key_value_heads", &settings->key_value_heads, status);
  if (TF_GetCode(status) == TF_OK) TF_OpKernelConstruction_GetAttrInt64(construction, "batch", &settings->batch, status);
  if (TF_GetCode(status) == TF_OK) TF_OpKernelConstruction_GetAttrBool(construction, "causal", &settings->causal, status);
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return settings;
}

void DeleteAttention(void* kernel) { delete static_cast<AttentionSettings*>(kernel); }

const bool registered = [] {
  Register("VisprunerAttention", {"heads: int", "key_value_heads: int", "batch: int", "causal: bool"}, {"queries: float", "keys: float", "values: float"},
           {"y: float"}, CreateAttention, ComputeAttention, DeleteAttention);
  Register("VisprunerCacheWrite", {}, {"keys: float", "values: float", "new_keys: float", "new_values: float", "at: int32"}, {}, CreateNothing,
           ComputeCacheWrite, DeleteNothing);
  Register("VisprunerCacheAttention", {}, {"queries: float", "keys: float", "values: float", "length: int32"}, {"y: float"}, CreateNothing,
           ComputeCacheAttention, DeleteNothing);
  return true;
}();

}  // namespace

bool CacheOf(const TF_Tensor* keys, const TF_Tensor* values, Cache* cache) {
  if (TF_NumDims(keys) != 4 || TF_NumDims(values) != 4 || TF_Dim(keys, 3) != kLanes || TF_Dim(values, 3) != kLanes) return false;
  // Both are written in place: whoever holds them is their only holder (layers/kv_cache.ts copies a cache that is shared).
  *cache = {static_cast<float*>(TF_TensorData(keys)), static_cast<float*>(TF_TensorData(values)), TF_Dim(keys, 0), TF_Dim(keys, 2), TF_Dim(keys, 1) * kLanes};
  return TF_Dim(values, 0) == cache->heads && TF_Dim(values, 1) * kLanes == Lanes16(cache->depth) && TF_Dim(values, 2) == cache->capacity;
}

void WriteCache(const float* keys, const float* values, int64_t count, int64_t at, const Cache& cache) {
  const int64_t depth = cache.depth, width = cache.heads * depth, padded = Lanes16(depth);
  Parallel(cache.heads, 1 + (1 << 14) / (count * depth + 1), [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) {
      float *k = cache.keys + head * cache.capacity * depth, *v = cache.values + head * cache.capacity * padded;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t token = at + i;
        const float *key = keys + i * width + head * depth, *value = values + i * width + head * depth;
        float* column = k + token / kLanes * depth * kLanes + token % kLanes;
        for (int64_t d = 0; d < depth; ++d) column[d * kLanes] = key[d];
        for (int64_t d = 0; d < depth; ++d) v[(d / kLanes * cache.capacity + token) * kLanes + d % kLanes] = value[d];
      }
    }
  });
}

void AttendCache(const float* queries, int64_t count, int64_t query_heads, const Cache& cache, int64_t length, float* output) {
  if (count > 0) Attend({queries, cache.keys, cache.values, output, query_heads, cache.heads, cache.depth, count, length, cache.capacity, true});
}

int64_t Scalar(const TF_Tensor* tensor) { return TF_TensorElementCount(tensor) == 1 ? *Data<int32_t>(tensor) : -1; }

}  // namespace vispruner
