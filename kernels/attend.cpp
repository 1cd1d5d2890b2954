// One layer's attention in one forward: the plan's tasks, as threads take them.
#include "run.h"
#include "transformer.h"

namespace tokenworks {

void Transformer::plan_attention(Run& run) const {
    std::vector<AttendedSpan> spans;
    for (const SpanView& span : run.spans) spans.push_back({span.start, span.length});
    const int group = shape_.heads / shape_.kv_heads;
    for (LayerAttention& attention : run.scratch.attentions) {
        const AttentionShape shape{group, shape_.kv_heads, attention.window, shape_.causal};
        attention.prepare(tokenworks::plan_attention(spans, shape, shape_.head_dim, run.threads), shape_.kv_heads);
    }
    for (auto& scratch : run.scratch.attention_scratch)
        if (scratch.empty()) scratch.resize(attention_scratch(shape_.head_dim) + kQueryBlock * part_floats(shape_.head_dim));
}

int Transformer::attention_tasks(const Run& run, int layer) const {
    return int(run.scratch.attentions[layers_[size_t(layer)].attention].plan.tasks.size()) * shape_.kv_heads;
}

void Transformer::attend(const Run& run, int layer, int number, int thread) const {
    LayerAttention& attention = run.scratch.attentions[layers_[size_t(layer)].attention];
    const AttentionPlan& plan = attention.plan;
    const size_t tasks = plan.tasks.size();
    const int kv_head = int(size_t(number) / tasks), group = shape_.heads / shape_.kv_heads, size = shape_.head_dim;
    const AttentionTask& task = plan.tasks[size_t(number) % tasks];
    const AttentionBlock& block = plan.blocks[size_t(task.block)];
    const SpanView& span = run.spans[size_t(block.span)];
    const AttentionShape shape{group, shape_.kv_heads, attention.window, shape_.causal};

    Query queries[kQueryBlock];
    for (int i = 0; i < block.count; ++i) {
        const int row = (block.first + i) / group, head = kv_head * group + (block.first + i) % group;
        const size_t at = (size_t(span.row + row) * shape_.heads + head) * size;
        const int position = span.start + row;
        queries[i] = {run.query + at, run.inputs[0].attention.floats + at, shape.first_seen(position),
                      shape_.causal ? position : span.start + span.length - 1};
    }
    const size_t count = size_t(block.count), chunks = size_t(block.end - block.begin);
    float* scratch = run.scratch.attention_scratch[size_t(thread)].data();
    float* own = scratch + attention_scratch(size);
    float* parts = plan.split ? attention.parts.data() + plan.part_floats * size_t(kv_head) + block.parts : own;
    float* to = parts + size_t(task.begin - block.begin) * count * part_floats(size);
    kernels_.attend(queries, block.count, key_values(layer), kv_head, span.pages, task.begin, task.end, scratch, to);
    if (!plan.split) return kernels_.settle(queries, block.count, parts, 1, size);
    std::atomic<int>& done = attention.chunks_done[size_t(kv_head) * plan.blocks.size() + size_t(task.block)];
    if (size_t(done.fetch_add(1, std::memory_order_acq_rel)) + 1 < chunks) return;
    done.store(0, std::memory_order_relaxed);  // the next layer's threads come after a barrier
    kernels_.settle(queries, block.count, parts, int(chunks), size);
}

}  // namespace tokenworks
