// How KV pages lie in memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "layout.h"

namespace tokenworks {

enum class KvFormat { bf16, int8 };

// Bytes of one KV head's part of a page.
constexpr size_t head_page_bytes(KvFormat format, int head_dim) {
    const size_t numbers = size_t(2) * kPageTokens * size_t(head_dim);
    return format == KvFormat::int8 ? numbers + 2 * kPageTokens * sizeof(uint16_t) : numbers * sizeof(uint16_t);
}

// KV pages of one layer. One KV head's part of a page:
//
//   bf16: keys [head_dim / 2][16 tokens][2], then values [8][head_dim][2], so that the two places of a pair, dimensions or
//         tokens, lie beside each other. Values of tokens that do not exist yet are 0: their weights are, and 0 times what
//         might lie there need not be.
//   int8: a line of bf16 scales, of the keys [16 tokens] and of the values [16 tokens]; then codes within ±127, of the keys
//         [head_dim][16 tokens] and of the values [16 tokens][head_dim]. A token's key is its scale times its codes, and so
//         its value. Values' scales of tokens that do not exist yet are 0.
struct KeyValues {
    uint8_t* base;       // of this layer
    size_t page_stride;  // in bytes, all KV heads of one page
    int head_dim;
    KvFormat format;

    size_t head_bytes() const { return head_page_bytes(format, head_dim); }
    uint8_t* part(int page, int head) const { return base + page_stride * size_t(page) + head_bytes() * size_t(head); }

    uint16_t* keys(int page, int head) const { return (uint16_t*)part(page, head); }
    uint16_t* values(int page, int head) const { return keys(page, head) + size_t(kPageTokens) * head_dim; }

    uint16_t* key_scales(int page, int head) const { return (uint16_t*)part(page, head); }
    uint16_t* value_scales(int page, int head) const { return key_scales(page, head) + kPageTokens; }
    int8_t* key_codes(int page, int head) const { return (int8_t*)(value_scales(page, head) + kPageTokens); }
    int8_t* value_codes(int page, int head) const { return key_codes(page, head) + size_t(kPageTokens) * head_dim; }

    // Makes the first `rows` tokens of page `to` those of page `from`; no other token of `to` exists any more.
    void copy_rows(int from, int to, int rows, int head) const {
        std::memset(part(to, head), 0, head_bytes());
        const size_t kept = size_t(rows), size = size_t(head_dim);
        if (format == KvFormat::int8) {
            std::memcpy(key_scales(to, head), key_scales(from, head), kept * sizeof(uint16_t));
            std::memcpy(value_scales(to, head), value_scales(from, head), kept * sizeof(uint16_t));
            for (size_t at = 0; at < size * kPageTokens; at += kPageTokens)
                std::memcpy(key_codes(to, head) + at, key_codes(from, head) + at, kept);
            std::memcpy(value_codes(to, head), value_codes(from, head), kept * size);
            return;
        }
        for (size_t at = 0; at < size * kPageTokens; at += 2 * kPageTokens)
            std::memcpy(keys(to, head) + at, keys(from, head) + at, 2 * kept * sizeof(uint16_t));
        const size_t pairs = kept / 2 * 2 * size;
        std::memcpy(values(to, head), values(from, head), pairs * sizeof(uint16_t));
        for (size_t at = pairs; kept % 2 && at < pairs + 2 * size; at += 2) values(to, head)[at] = values(from, head)[at];
    }
};

}  // namespace tokenworks
