// The plan of attention's tasks: every query sees exactly its tokens' chunks once, and what is masked is in no task.
// Exits 1 at the first disagreement and says where.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>

#include "../attention_plan.h"

using namespace tokenworks;

namespace {

void expect(bool holds, const std::string& what) {
    if (holds) return;
    std::printf("FAILED: %s\n", what.c_str());
    std::exit(1);
}

int64_t planned_chunks(const AttentionPlan& plan) {
    int64_t chunks = 0;
    for (const AttentionTask& task : plan.tasks) chunks += task.end - task.begin;
    return chunks;
}

void every_query_meets_each_chunk_that_it_sees_once() {
    std::mt19937 random(3);
    auto draw = [&](int low, int high) { return low + int(random() % unsigned(high - low + 1)); };
    for (int round = 0; round < 2000; ++round) {
        std::vector<AttendedSpan> spans;
        for (int s = draw(1, 5); s > 0; --s) spans.push_back({draw(0, 1) ? draw(0, 2000) : 0, draw(1, draw(0, 1) ? 300 : 2)});
        AttentionShape shape{draw(1, 9), draw(1, 4), draw(0, 1) ? draw(1, 700) : 0, draw(0, 3) > 0};
        if (!shape.causal) {
            shape.window = 0;
            for (AttendedSpan& span : spans) span.start = 0;
        }
        const AttentionPlan plan = plan_attention(spans, shape, 64, draw(1, 16));
        std::map<std::pair<int, int>, std::vector<int>> met;  // by span and query
        for (const AttentionTask& task : plan.tasks) {
            const AttentionBlock& block = plan.blocks[size_t(task.block)];
            expect(block.count >= 1 && block.count <= kQueryBlock, "a block has too many queries");
            expect(task.begin >= block.begin && task.end <= block.end && task.begin < task.end, "a task leaves its block");
            expect(!plan.split || task.end == task.begin + 1, "a split task has more than one chunk");
            for (int i = 0; i < block.count; ++i)
                for (int chunk = task.begin; chunk < task.end; ++chunk)
                    met[{block.span, block.first + i}].push_back(chunk);
        }
        for (int s = 0; s < int(spans.size()); ++s)
            for (int query = 0; query < spans[size_t(s)].length * shape.group; ++query) {
                const int position = spans[size_t(s)].start + query / shape.group;
                const int last = shape.causal ? position : spans[size_t(s)].start + spans[size_t(s)].length - 1;
                const auto& chunks = met[{s, query}];
                for (int chunk = shape.first_seen(position) / kChunkTokens; chunk <= last / kChunkTokens; ++chunk)
                    expect(std::count(chunks.begin(), chunks.end(), chunk) == 1, "a chunk is not met once");
            }
    }
}

void what_a_window_masks_is_not_read() {
    const AttentionShape windowed{3, 3, 512, true}, full{3, 3, 0, true};
    const auto chunks = [](int start, int length, const AttentionShape& shape) {
        return planned_chunks(plan_attention({{start, length}}, shape, 64, 2));
    };
    expect(chunks(131000, 1, windowed) <= 3 && chunks(131000, 1, full) == 131000 / kChunkTokens + 1,
           "one token reads more than its window");
    expect(chunks(100000, 256, windowed) <= chunks(1000, 256, windowed) + 4,
           "a window's cost grows with what it masks");
    expect(chunks(0, 512, full) < 2 * 512 * 3 / kQueryBlock, "a prompt's first rows read what comes after them");
}

void few_blocks_are_split_and_many_are_not() {
    const AttentionShape shape{3, 3, 0, true};
    expect(plan_attention({{2000, 1}}, shape, 64, 4).split, "one long sequence does not keep all threads busy");
    expect(!plan_attention(std::vector<AttendedSpan>(16, {2000, 1}), shape, 64, 4).split, "many sequences are split");
    expect(!plan_attention({{2000, 1}}, shape, 64, 1).split, "one thread's work is split");
}

}  // namespace

int main() {
    every_query_meets_each_chunk_that_it_sees_once();
    what_a_window_masks_is_not_read();
    few_blocks_are_split_and_many_are_not();
    std::printf("all hold\n");
}
