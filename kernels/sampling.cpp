#include "sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace tokenworks {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

// One row's state; buffers are kept from row to row.
struct Row {
    std::span<const float> logits;
    float peak;
    float sharpness;  // 1 / temperature
    std::vector<float>& blocks;  // largest logits

    int count() const { return int(logits.size()); }
    float scaled(float logit) const { return (logit - peak) * sharpness; }

    // The ids, ascending, of all logits that are `least` or more.
    std::span<const int> at_least(float least) const {
        thread_local std::vector<int> ids;
        ids.resize(logits.size());
        int found = 0;
        for (int block = 0; block < int(blocks.size()); ++block) {
            if (blocks[size_t(block)] < least) continue;
            const int end = std::min((block + 1) * kLogitBlock, count());
            for (int at = block * kLogitBlock; at < end; ++at) {
                ids[size_t(found)] = at;  // written over by the next unless it is one
                found += logits[size_t(at)] >= least;
            }
        }
        return {ids.data(), size_t(found)};
    }
};

// The k-th largest scaled logit.
float kth_largest(const Row& row, int k) {
    // The k-th largest of the blocks' largest is no larger.
    float floor = kNone;
    if (k <= int(row.blocks.size())) {
        std::vector<float> largest = row.blocks;
        std::nth_element(largest.begin(), largest.begin() + (k - 1), largest.end(), std::greater<>());
        floor = largest[size_t(k - 1)];
    }
    std::vector<float> values;
    for (int id : row.at_least(floor)) values.push_back(row.logits[size_t(id)]);
    std::nth_element(values.begin(), values.begin() + (k - 1), values.end(), std::greater<>());
    return row.scaled(values[size_t(k - 1)]);
}

// The token at which the running sum over `weights[ids]` passes `position` of their total.
template <typename Weight>
int passing(int count, double target, double sum, const Weight& weight) {
    int last = 0;
    for (int at = 0; at < count; ++at) {
        const float own = weight(at);
        if (own > 0.0f) last = at;
        sum += double(own);
        if (sum > target) return at;
    }
    return last;  // rounding: the sum may end just below the target
}

// Sixteen sizes of weights an octave: a heavier weight is of no lower one.
uint32_t size_of(float weight) { return std::bit_cast<uint32_t>(weight) >> 19; }
constexpr size_t kSizes = (127u << 4) + 1;  // to 1

int draw_from_nucleus(const Row& row, const std::vector<float>& weights, double total, float top_p, double position) {
    const auto weight_of = [&](int id) { return weights[size_t(id)]; };
    // Tokens lighter than this weigh together less than what the nucleus leaves out; a little less still for rounding.
    const double least = std::log((1.0 - double(top_p)) * total / row.count()) - 1e-3;
    const auto ids = row.at_least(row.peak + float(least) / row.sharpness);
    double masses[kSizes] = {};
    for (int id : ids) masses[size_of(weight_of(id))] += double(weight_of(id));
    // The nucleus takes all heavier sizes, and of one size a part.
    const double wanted = double(top_p) * total;
    size_t size = kSizes - 1;
    double mass = masses[size];
    while (size > 1 && mass < wanted) mass += masses[--size];
    std::vector<int> part;
    for (int id : ids)
        if (size_of(weight_of(id)) == size) part.push_back(id);
    std::sort(part.begin(), part.end(), [&](int one, int other) {
        return weight_of(one) > weight_of(other) || (weight_of(one) == weight_of(other) && one < other);
    });
    mass -= masses[size];
    size_t kept = 0;
    while (kept < part.size() && (mass < wanted || kept == 0)) mass += double(weight_of(part[kept++]));
    const int last = kept ? part[kept - 1] : -1;
    const float lightest = kept ? weight_of(last) : 0.0f;
    return ids[size_t(passing(int(ids.size()), position * mass, 0.0, [&](int at) {
        const float own = weight_of(ids[size_t(at)]);
        return own > lightest || (own == lightest && ids[size_t(at)] <= last) ? own : 0.0f;
    }))];
}

int draw(const Kernels& kernels, const Row& row, const Filters& filters, double position) {
    thread_local std::vector<float> weights, sums;
    sums.resize(row.blocks.size());
    weights.resize(sums.size() * kLogitBlock);
    float cut = filters.min_p > 0.0f ? std::log(filters.min_p) : kNone;
    if (filters.top_k > 0 && filters.top_k < row.count()) cut = std::max(cut, kth_largest(row, filters.top_k));
    kernels.weigh_logits(row.logits.data(), row.count(), row.peak, row.sharpness, cut, weights.data(), sums.data());
    double total = 0.0;
    for (float sum : sums) total += double(sum);
    if (filters.top_p < 1.0f) return draw_from_nucleus(row, weights, total, filters.top_p, position);
    const double target = position * total;
    double before = 0.0;
    size_t block = 0;
    while (block + 1 < sums.size() && before + double(sums[block]) <= target) before += double(sums[block++]);
    while (block > 0 && sums[block] == 0.0f) before -= double(sums[--block]);  // rounding: beyond all that weighs
    const int start = int(block) * kLogitBlock;
    return start + passing(std::min(kLogitBlock, row.count() - start), target, before,
                           [&](int at) { return weights[size_t(start + at)]; });
}

}  // namespace

Choice choose(const Kernels& kernels, std::span<const float> logits, const Filters& filters, double position) {
    thread_local std::vector<float> blocks;
    blocks.resize((logits.size() + kLogitBlock - 1) / kLogitBlock);
    const bool numbers = kernels.largest_logits(logits.data(), int(logits.size()), blocks.data());
    const auto top = std::max_element(blocks.begin(), blocks.end());
    auto best = numbers ? logits.end() : std::find_if(logits.begin(), logits.end(), [](float x) { return x != x; });
    if (best == logits.end()) best = std::find(logits.begin() + (top - blocks.begin()) * kLogitBlock, logits.end(), *top);
    const int likeliest = int(best - logits.begin());
    if (filters.temperature == 0.0f || !std::isfinite(*best)) return {likeliest, likeliest, *best};
    const Row row{logits, *best, 1.0f / filters.temperature, blocks};
    return {draw(kernels, row, filters, position), likeliest, *best};
}

}  // namespace tokenworks
