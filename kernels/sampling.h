#pragma once
// The next token from one row of logits: greedy, or drawn from what temperature, min-p, top-k and top-p leave, in that
// order.
#include <span>

#include "kernels.h"

namespace tokenworks {

struct Filters {
    float temperature;  // 0 is greedy
    int top_k;          // 0 keeps all; what ties with the k-th stays
    float top_p;        // 1 keeps all; of what ties at the edge the lowest ids stay
    float min_p;        // 0 keeps all
};

struct Choice {
    int token;
    int likeliest;  // of those that tie the lowest; the first that is no number, if there is one
    float peak;     // its logit; nothing was drawn if that is not finite
};

// `position` in [0, 1) says where in the running sum of the weights, ids ascending, the token is drawn.
Choice choose(const Kernels& kernels, std::span<const float> logits, const Filters& filters, double position);

}  // namespace tokenworks
