// Vectors of 8 floats, for the instruction set of the namespace that it is included in (dispatch.h).

typedef float Floats __attribute__((vector_size(32)));  // 8 lanes
typedef int32_t Lanes __attribute__((vector_size(32)));
typedef uint32_t Words __attribute__((vector_size(32)));

static inline Floats Load(const float* p) {
  Floats v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

static inline void Store(float* p, Floats v) { __builtin_memcpy(p, &v, sizeof v); }

static inline Floats MultiplyAdd(Floats a, Floats b, Floats c) {
#if VISPRUNER_AVX2
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

static inline Floats Everywhere(float x) { return Floats{x, x, x, x, x, x, x, x}; }

static inline float Sum(Floats v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }
