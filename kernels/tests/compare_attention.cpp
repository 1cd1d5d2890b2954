// Holds attention on every instruction-set path to a plain double-precision reference, to itself in other tiles and
// pieces, and the paths with fused multiply-add to each other, bit for bit, with pages of either format. Exits 1 at the
// first disagreement.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../halves.h"
#include "../kernels.h"

using namespace tokenworks;

namespace {

std::mt19937 random_bits(7);
int checks = 0;
uint64_t digest = 0xcbf29ce484222325;  // of every result of the first path, to compare runs on other processors with

std::vector<float> floats(size_t count, float low = -2, float high = 2) {
    std::vector<float> values(count);
    for (float& value : values) value = low + (high - low) * (float(random_bits() >> 8) / 16777216.0f);
    return values;
}

void expect(bool holds, const std::string& what) {
    ++checks;
    if (holds) return;
    std::printf("FAILED: %s\n", what.c_str());
    std::exit(1);
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

double as_stored(float x) { return bf16_to_float(float_to_factor(x)); }

const char* name_of(KvFormat format) { return format == KvFormat::int8 ? "int8" : "bf16"; }

// A sequence in pages that lie in reverse order; slots that no token was written to start as NaN.
struct Cache {
    std::vector<uint16_t> store;
    std::vector<int32_t> table;
    KeyValues kv;
    std::vector<std::vector<float>> keys, values;

    Cache(int tokens, int size, KvFormat format, const std::vector<const Kernels*>& paths) {
        const int pages = (tokens + kPageTokens - 1) / kPageTokens;
        const size_t page_bytes = head_page_bytes(format, size);
        store.assign(page_bytes / sizeof(uint16_t) * size_t(pages), 0x7FFF);
        for (int page = 0; page < pages; ++page) table.push_back(pages - 1 - page);
        kv = {reinterpret_cast<uint8_t*>(store.data()), page_bytes, size, format};
        for (int t = 0; t < tokens; ++t) {
            keys.push_back(floats(size_t(size), -2.0f / float(1 + t % 3), 2.0f / float(1 + t % 3)));
            values.push_back(floats(size_t(size), -2.0f / float(1 + t % 5), 2.0f / float(1 + t % 5)));
            keys.back()[0] *= 1e-20f;  // less than what counts
            for (float& value : values.back()) value *= t % 7 == 3 ? 1e-20f : 1.0f;
            const Kernels& by = *paths[size_t(t) % paths.size()];
            const int page = table[size_t(t / kPageTokens)], slot = t % kPageTokens;
            by.store_key(keys.back().data(), kv, page, 0, slot);
            const int width = format == KvFormat::int8 ? size : kPanelRows;
            for (int d = 0; d < size; d += width)
                by.store_value(values.back().data() + d, d, width, kv, page, 0, slot, t + 1 == tokens);
        }
    }
    double key(int t, int d) const {
        if (kv.format == KvFormat::bf16) return as_stored(keys[size_t(t)][size_t(d)]);
        const int page = table[size_t(t / kPageTokens)], slot = t % kPageTokens;
        return bf16_to_float(kv.key_scales(page, 0)[slot]) * kv.key_codes(page, 0)[d * kPageTokens + slot];
    }
    double value(int t, int d) const {
        if (kv.format == KvFormat::bf16) return as_stored(values[size_t(t)][size_t(d)]);
        const int page = table[size_t(t / kPageTokens)], slot = t % kPageTokens;
        return bf16_to_float(kv.value_scales(page, 0)[slot]) * kv.value_codes(page, 0)[slot * kv.head_dim + d];
    }
};

// Codes are as near as 127 steps allow whose size is rounded up to bf16, on every path the same.
void check_codes(const std::vector<const Kernels*>& paths, int size) {
    const std::string where = "codes of heads of " + std::to_string(size);
    std::vector<std::vector<uint16_t>> stores;
    for (const Kernels* path : paths) {
        random_bits.seed(uint32_t(size));
        const Cache cache(37, size, KvFormat::int8, {path});
        for (int t = 0; t < 37; ++t)
            for (const auto& [x, kept] : {std::pair(cache.keys[size_t(t)], &Cache::key), std::pair(cache.values[size_t(t)], &Cache::value)}) {
                double most = 0;
                for (float number : x) most = std::max(most, double(std::fabs(number)));
                for (int d = 0; d < size; ++d)
                    expect(std::fabs((cache.*kept)(t, d) - x[size_t(d)]) <= most / 127 * 0.5 * 1.009 + 0x1p-57,
                           where + " on " + path->name + " are not the nearest");
            }
        stores.push_back(cache.store);
        expect(stores[0] == stores.back(), where + " differ between " + paths[0]->name + " and " + path->name);
    }
}

struct Asked {  // positions first… of a sequence, of which each sees `window` tokens, itself included
    int first, count, window;
    int begin(int q) const { return std::max(0, first + q + 1 - window); }
};

std::vector<double> expected(const Cache& cache, const std::vector<float>& query, const Asked& asked) {
    const int size = cache.kv.head_dim;
    std::vector<double> want;
    for (int q = 0; q < asked.count; ++q) {
        std::vector<double> weights;
        double top = -1e30, total = 0;
        for (int t = asked.begin(q); t <= asked.first + q; ++t) {
            double score = 0;
            for (int d = 0; d < size; ++d)
                score += as_stored(query[size_t(q * size + d)] * kLog2E) * cache.key(t, d);
            weights.push_back(score);
            top = std::max(top, score);
        }
        for (double& weight : weights) total += weight = std::exp2(weight - top);
        for (int d = 0; d < size; ++d) {
            double sum = 0;
            for (size_t t = 0; t < weights.size(); ++t)
                sum += weights[t] / total * cache.value(asked.begin(q) + int(t), d);
            want.push_back(sum);
        }
    }
    return want;
}

// In blocks of at most `most` queries, all chunks together or each on its own.
std::vector<float> attended(const Kernels& path, const Cache& cache, const std::vector<float>& query, const Asked& asked,
                            int most, bool split) {
    const int size = cache.kv.head_dim, chunks = (asked.first + asked.count - 1) / kChunkTokens + 1;
    std::vector<float> scratch(attention_scratch(size)), parts(size_t(chunks) * kQueryBlock * part_floats(size));
    std::vector<float> out(query.size());
    for (int q = 0; q < asked.count; q += most) {
        std::vector<Query> block;
        for (int i = q; i < std::min(q + most, asked.count); ++i)
            block.push_back({query.data() + i * size, out.data() + i * size, asked.begin(i), asked.first + i});
        const int queries = int(block.size()), from = asked.begin(q) / kChunkTokens;
        const int to = block.back().last / kChunkTokens + 1, step = split ? 1 : to - from;
        float* part = parts.data();
        for (int chunk = from; chunk < to; chunk += step, part += size_t(queries) * part_floats(size))
            path.attend(block.data(), queries, cache.kv, 0, cache.table.data(), chunk, chunk + step, scratch.data(), part);
        path.settle(block.data(), queries, parts.data(), split ? to - from : 1, size);
    }
    return out;
}

void check(const std::vector<const Kernels*>& paths, KvFormat format, int size, const Asked& asked) {
    const std::string where = std::string(name_of(format)) + " attention of heads of " + std::to_string(size) + ", first " + std::to_string(asked.first) +
                              ", count " + std::to_string(asked.count) + ", window " + std::to_string(asked.window);
    const Cache cache(asked.first + asked.count, size, format, paths);
    const auto query = floats(size_t(asked.count) * size, -0.5f, 0.5f);
    const auto want = expected(cache, query, asked);
    std::vector<std::vector<float>> results;
    for (const Kernels* path : paths) {
        const auto together = attended(*path, cache, query, asked, kQueryBlock, false);
        for (size_t i = 0; i < want.size(); ++i)  // weights are rounded to bf16
            expect(std::fabs(together[i] - want[i]) <= 4e-3 * (1 + std::fabs(want[i])),
                   where + " on " + path->name + " at " + std::to_string(i) + ": " + std::to_string(together[i]) + ", not " +
                       std::to_string(want[i]));
        for (int most : {1, 2, 3, 5, 7, 13, 17, 40})
            if (most < asked.count)
                expect(same(together, attended(*path, cache, query, asked, most, false)),
                       where + " depends on its tile on " + path->name);
        expect(same(together, attended(*path, cache, query, asked, 4, true)),
               where + " depends on who computes its chunks on " + path->name);
        results.push_back(together);
    }
    for (float value : results[0]) digest = (digest ^ float_to_bits(value)) * 0x100000001b3;
    for (size_t i = 1; i + 1 < results.size(); ++i)
        expect(same(results[0], results[i]), where + " differs between " + paths[0]->name + " and " + paths[i]->name);
}

}  // namespace

int main() {
    std::vector<const Kernels*> paths;
    for (int i = 0; i < kNumKernels; ++i)
        if (kAllKernels[i]->supported()) paths.push_back(kAllKernels[i]);
#ifdef TW_EMULATED
    paths.insert(paths.begin(), &kAvx512VnniKernels);
#endif
    for (int size : {16, 48, 64, 128, 272}) check_codes(paths, size);
    for (KvFormat format : {KvFormat::bf16, KvFormat::int8}) {
        const auto sizes = format == KvFormat::bf16 ? std::vector<int>{16, 64, 80, 128} : std::vector<int>{16, 80};
        for (int size : sizes)
            for (int first : {0, 1, 14, 15, 16, 31, 100})
                for (int count = 1; count <= 4; ++count)
                    for (int window : {1000, 1, 3, 16, 33}) check(paths, format, size, {first, count, window});
        for (int count : {5, 6, 7, 11, 12, 13, 16, 20, 25, 33, 47})
            for (int window : {1000, 17}) check(paths, format, 32, {9, count, window});
        for (int first : {200, 250, 255, 256, 511, 700})  // around the edges of chunks
            for (int count : {1, 3, 14, 60})
                for (int window : {1000, 1, 200, 256, 300}) check(paths, format, 32, {first, count, window});
        check(paths, format, 272, {300, 20, 1000});  // heads wider than a slab of a tile's rows
    }
    std::printf("digest %016llx, %d checks on", static_cast<unsigned long long>(digest), checks);
    for (const Kernels* path : paths) std::printf(" %s", path->name);
    std::printf("\n");
}
