// AMX's tile registers: what the compiler's own intrinsics do not tell it is that they read and write memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "halves.h"

namespace tokenworks::amx {

constexpr int kTileBytes = 64;  // of one row of a tile register

// As the processor reads it (Intel's manual, LDTILECFG).
struct alignas(64) TileConfiguration {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    constexpr void set(int tile, int count, int bytes) { rows[tile] = uint8_t(count), row_bytes[tile] = uint16_t(bytes); }
};

TW_INLINE void configure_tiles(const TileConfiguration& configuration) { asm volatile("ldtilecfg %0" ::"m"(configuration)); }
// So that the system need not save them when it switches threads.
TW_INLINE void release_tiles() { asm volatile("tilerelease"); }

template <int tile>
TW_INLINE void load_tile(const void* from, size_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
TW_INLINE void store_tile(void* to, size_t stride = kTileBytes) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
TW_INLINE void zero_tile() {
    asm volatile("tilezero %%tmm%c0" ::"i"(tile));
}
template <int sums, int a, int b>
TW_INLINE void add_product() {  // of signed bytes
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b));
}
template <int sums, int a, int b>
TW_INLINE void add_product_unsigned() {  // of a's signed and b's unsigned bytes
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b));
}

template <int sums, int a, int b>
TW_INLINE void add_product_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b));
}

// Memory in whole cache lines: a tile's rows must not straddle two.
struct Lines {
    struct alignas(64) Line {
        uint8_t bytes[64];
    };
    std::vector<Line> lines;

    template <typename T>
    T* reserve(size_t count) {
        const size_t wanted = (count * sizeof(T) + sizeof(Line) - 1) / sizeof(Line);
        if (lines.size() < wanted) lines.resize(wanted);
        return reinterpret_cast<T*>(lines.data());
    }
};

#define TW_LAMBDA __attribute__((always_inline))

// Calls work with 0 … Count - 1 as constants: a loop, even unrolled, would keep an array in memory.
template <int Count, typename Work>
TW_INLINE void each(Work work) {
    [&]<int... index>(std::integer_sequence<int, index...>) TW_LAMBDA {
        (work(std::integral_constant<int, index>{}), ...);
    }(std::make_integer_sequence<int, Count>{});
}

}  // namespace tokenworks::amx
