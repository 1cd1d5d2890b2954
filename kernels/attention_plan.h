// Which pieces of work one layer's attention is cut into. Pure: it knows no thread and no memory.
//
// A block is up to kQueryBlock queries (rows times heads of a group) of one span and KV head. A block is one task, or,
// where there are too few blocks to keep all threads busy, as many as it sees chunks: the last of them to be done
// merges their parts. What is masked costs nothing: a task's chunks begin where the window of its first row does and
// end with its last row.
#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

#include "attention.h"

namespace tokenworks {

struct AttendedSpan {
    int start, length;  // tokens before it, and its own
};

// What every layer with the same window has in common.
struct AttentionShape {
    int group, kv_heads;  // query heads of a KV head
    int window;           // tokens that a token sees, itself included; 0: all
    bool causal;

    int first_seen(int position) const { return window > 0 ? std::max(0, position + 1 - window) : 0; }
};

struct AttentionBlock {
    int span, first, count;  // queries first… of the span
    int begin, end;          // chunks
    size_t parts;            // where its parts are kept, in floats; used if its chunks are tasks of their own
};

struct AttentionTask {
    int block, begin, end;  // chunks
};

struct AttentionPlan {
    std::vector<AttentionBlock> blocks;
    std::vector<AttentionTask> tasks;  // of one KV head
    bool split = false;
    size_t part_floats = 0;  // memory for the parts of one KV head's blocks
};

constexpr int kTasksPerThread = 4;                  // fewer could leave a thread without work for long
constexpr size_t kMostPartFloats = size_t(1) << 22;  // for all KV heads: beyond that chunks stay together

inline AttentionPlan plan_attention(const std::vector<AttendedSpan>& spans, const AttentionShape& shape, int head_dim,
                                    int threads) {
    AttentionPlan plan;
    for (int s = 0; s < int(spans.size()); ++s) {
        const AttendedSpan& span = spans[size_t(s)];
        const int queries = span.length * shape.group;
        const int first_block = (queries - 1) / kQueryBlock * kQueryBlock;
        for (int first = first_block; first >= 0; first -= kQueryBlock) {  // later rows see more: longest tasks first
            const int count = std::min(kQueryBlock, queries - first);
            const int first_row = span.start + first / shape.group;
            const int last_row = shape.causal ? span.start + (first + count - 1) / shape.group : span.start + span.length - 1;
            const int begin = shape.first_seen(first_row) / kChunkTokens, end = last_row / kChunkTokens + 1;
            plan.blocks.push_back({s, first, count, begin, end, plan.part_floats});
            plan.part_floats += size_t(end - begin) * count * part_floats(head_dim);
        }
    }
    const int pieces = int(plan.blocks.size()) * shape.kv_heads;
    plan.split = threads > 1 && pieces < kTasksPerThread * threads &&
                 plan.part_floats * size_t(shape.kv_heads) <= kMostPartFloats;
    for (int b = 0; b < int(plan.blocks.size()); ++b) {
        const AttentionBlock& block = plan.blocks[size_t(b)];
        const int step = plan.split ? 1 : block.end - block.begin;
        for (int chunk = block.begin; chunk < block.end; chunk += step) plan.tasks.push_back({b, chunk, chunk + step});
    }
    return plan;
}

}  // namespace tokenworks
