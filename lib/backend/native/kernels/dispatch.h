// Includes the file SIMD once for each instruction set, in namespaces of the place where this is included; DISPATCH(f(...)) calls the one for this
// processor. Nothing is shared between them: an inline function of the standard library, compiled for one, would be linked for all. VISPRUNER_AVX2 says
// which one it is: g++ 12 does not define __AVX2__ behind a pragma.
#pragma GCC diagnostic ignored "-Wpsabi"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#define VISPRUNER_AVX2 1
namespace avx2 {
#include SIMD
}
#undef VISPRUNER_AVX2
#pragma GCC pop_options
#define DISPATCH(...) (HasAvx2() ? avx2::__VA_ARGS__ : portable::__VA_ARGS__)
#else
#define DISPATCH(...) (portable::__VA_ARGS__)
#endif

#define VISPRUNER_AVX2 0
namespace portable {
#include SIMD
}
