// The AVX-512 path on a processor without AVX-512: SIMDe implements the intrinsics, this file the few that it lacks.
// For tests only: same source, same meaning, no speed.
#define SIMDE_ENABLE_NATIVE_ALIASES
#define TW_EMULATE_AVX512
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>

#include <cstdint>
#include <cstring>

namespace {

template <typename To, typename From>
To bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
struct Lanes { float f[16]; };
struct Words { int32_t i[16]; };

simde__m512 emulated_cvtepi32_ps(simde__m512i a) {
    const Words w = bits<Words>(a);
    Lanes r;
    for (int i = 0; i < 16; ++i) r.f[i] = float(w.i[i]);
    return bits<simde__m512>(r);
}
simde__m512 emulated_abs(simde__m512 a) {  // SIMDe leaves the sign of -0
    Words w = bits<Words>(a);
    for (int i = 0; i < 16; ++i) w.i[i] &= 0x7FFFFFFF;
    return bits<simde__m512>(w);
}
simde__m512i emulated_cvtps_epi32(simde__m512 a) {
    const Lanes f = bits<Lanes>(a);
    Words r;
    for (int i = 0; i < 16; ++i) r.i[i] = int32_t(__builtin_nearbyintf(f.f[i]));
    return bits<simde__m512i>(r);
}
simde__m512i emulated_cvtepu16_epi32(simde__m256i a) {
    struct Shorts { uint16_t h[16]; };
    const Shorts h = bits<Shorts>(a);
    Words r;
    for (int i = 0; i < 16; ++i) r.i[i] = h.h[i];
    return bits<simde__m512i>(r);
}
simde__m512i emulated_cvtepi8_epi32(simde__m128i a) {
    struct Bytes { int8_t b[16]; };
    const Bytes bytes = bits<Bytes>(a);
    Words r;
    for (int i = 0; i < 16; ++i) r.i[i] = bytes.b[i];
    return bits<simde__m512i>(r);
}
simde__m512 emulated_cvtph_ps(simde__m256i a) {
    struct Halves { simde__m128i part[2]; };
    const Halves h = bits<Halves>(a);
    struct Pair { simde__m256 part[2]; };
    return bits<simde__m512>(Pair{{simde_mm256_cvtph_ps(h.part[0]), simde_mm256_cvtph_ps(h.part[1])}});
}
simde__m256i emulated_cvtps_ph(simde__m512 a) {
    struct Pair { simde__m256 part[2]; };
    const Pair p = bits<Pair>(a);
    struct Halves { simde__m128i part[2]; };
    return bits<simde__m256i>(Halves{{simde_mm256_cvtps_ph(p.part[0], 0), simde_mm256_cvtps_ph(p.part[1], 0)}});
}
simde__m128i emulated_cvtepi32_epi8(simde__m512i a) {
    const Words w = bits<Words>(a);
    struct Bytes { int8_t b[16]; } r;
    for (int i = 0; i < 16; ++i) r.b[i] = int8_t(w.i[i]);
    return bits<simde__m128i>(r);
}
int32_t emulated_reduce_add(simde__m512i a) {
    const Words w = bits<Words>(a);
    int32_t sum = 0;
    for (int i = 0; i < 16; ++i) sum += w.i[i];
    return sum;
}
simde__m256 emulated_half(simde__m512 a, int which) {
    struct Pair { simde__m256 part[2]; };
    return bits<Pair>(a).part[which];
}

}  // namespace

#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_abs_ps emulated_abs
#define _mm512_cvtps_epi32 emulated_cvtps_epi32
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#define _mm512_cvtepi8_epi32 emulated_cvtepi8_epi32
#define _mm512_cvtph_ps emulated_cvtph_ps
#define _mm512_cvtps_ph(a, rounding) emulated_cvtps_ph(a)
#define _mm512_cvtepi32_epi8 emulated_cvtepi32_epi8
#define _mm512_reduce_add_epi32 emulated_reduce_add
#define _mm512_extractf32x8_ps(a, which) emulated_half(a, which)

#include "../path_avx512vnni.cpp"
